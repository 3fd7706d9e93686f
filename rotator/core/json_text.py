"""JSON that others wrote, read within limits: it may be anything but what it should be."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from typing import Any, Final, NoReturn

# An object of one letter takes thirty times the memory of its text, and each level a frame of the stack.
_MOST_PARTS: Final = 100_000
_DEEPEST: Final = 64
_PART: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[,\[{]', re.DOTALL)


class TooLarge(ValueError):
    """The JSON nests too deeply or has too many parts."""


def json_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises `ValueError`, which repeats nothing of the text, for anything else: for other JSON too, for
    numbers that are not finite and for characters that no encoding has. `TooLarge` is raised where
    it nests deeper than 64 levels or has more than 100,000 texts, commas and opening brackets.
    """
    found = _parsed(text)
    if isinstance(found, dict):
        return found
    raise ValueError("it is not a JSON object")


def _parsed(text: str | bytes) -> object:
    # No error is raised inside of an `except`: the one of the decoder carries the text.
    failed: ValueError = ValueError("it is not JSON")
    try:
        text = text.decode() if isinstance(text, bytes) else text
        _require_few_parts(text)
        found: object = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        _require_flat(text, found)
        if "\\ud" in text.lower():
            _ = json.dumps(found, ensure_ascii=False).encode()
    except TooLarge as error:
        failed = error
    except RecursionError:
        failed = TooLarge(f"it nests deeper than {_DEEPEST} levels")
    except ValueError:
        pass
    else:
        return found
    raise failed


def _require_few_parts(text: str) -> None:
    if sum(text.count(mark) for mark in '",[{') <= _MOST_PARTS:
        return
    # What is inside of texts is no part.
    if sum(1 for _ in islice(_PART.finditer(text), _MOST_PARTS + 1)) > _MOST_PARTS:
        raise TooLarge(f"it has more than {_MOST_PARTS} parts")


def _require_flat(text: str, found: object) -> None:
    if text.count("[") + text.count("{") <= _DEEPEST:
        return
    level, depth = [found], 0
    while level:
        depth += 1
        if depth > _DEEPEST + 1:
            raise TooLarge(f"it nests deeper than {_DEEPEST} levels")
        level = [part for one in level for part in _below(one)]


def _below(one: object) -> list[object]:
    if isinstance(one, dict):
        return list(one.values())
    return one if isinstance(one, list) else []


def _no_number(text: str) -> NoReturn:
    _ = text
    raise ValueError("it holds a number that is none")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("it holds a number that is too large")
    return number
