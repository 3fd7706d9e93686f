"""What a traceback keeps alive: the variables of every function that an error came through."""

from __future__ import annotations

import traceback


def forget_variables(error: BaseException) -> None:
    """Empty the frames behind an error, and behind all that it came of; texts and lines stay.

    A driver's frames hold passwords and tokens as plain text, and an error tracker or a debugger's
    traceback prints variables. Functions that are still running keep theirs.
    """
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
