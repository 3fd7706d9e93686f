"""What an error tracker would print: the variables of every function that an error came through."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def secrets_behind(error: BaseException, secrets: Iterable[str]) -> list[str]:
    """Return the variables behind an error, and behind all that it came of, that show a secret.

    Each as `function: name`. Functions that have not ended, such as the caller's, are not looked at.
    """
    secrets = list(secrets)
    found: list[str] = []
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        found += _of(one, secrets)
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
    return found


def _of(error: BaseException, secrets: list[str]) -> list[str]:
    found: list[str] = []
    trace = error.__traceback__
    # The first one is the caller's.
    trace = trace and trace.tb_next
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        for name, value in frame.f_locals.items():
            shown = _shown(value)
            if any(one in shown for one in secrets):
                found.append(f"{frame.f_code.co_qualname}: {name}")
    return found


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 # of an object that was not made to its end
        return ""
