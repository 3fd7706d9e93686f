"""Answers of a server: what it sent may be anything, and not only what its documentation says."""

from __future__ import annotations

from typing import Any, TypeVar

_T = TypeVar("_T")


class Malformed(Exception):  # an answer, not an error: the caller knows what it means
    """The answer is not what that server sends. It repeats nothing of the answer."""


class Excessive(Malformed):
    """The answer is larger, deeper or of more parts than it may be."""


def part(answer: object, *keys: str, kind: type[_T] | tuple[type[_T], ...]) -> _T:
    """Return what an answer has at these keys. Raises `Malformed` where it is missing or of another kind."""
    found: Any = answer
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    # To Python, True is a number.
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise Malformed(f"{'.'.join(keys) or 'the response'} is missing or has the wrong type")
    return found


def table(answer: object, *keys: str) -> dict[str, Any]:
    """Return the object that an answer has at these keys; see `part`."""
    return part(answer, *keys, kind=dict)


def texts(answer: object, *keys: str) -> list[str]:
    """Return the list of texts that an answer has at these keys; see `part`."""
    found: list[Any] = part(answer, *keys, kind=list)
    if not all(isinstance(one, str) for one in found):
        raise Malformed(f"{'.'.join(keys)} contains values that are not text")
    return found
