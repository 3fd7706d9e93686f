"""Marks errors with where they came from, and notes who answered: a host that is away is held back.

This is the border of plugins and backends: no error brings a variable of theirs along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from rotator.core.errors import RotatorError
from rotator.core.traceback_frames import forget_variables

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Calls that may be answered without asking the host, or without an answer of it.
_PURE: Final = frozenset({"propose", "may_lock", "entrances", "rotates_itself"})
# Calls that need all of our rights there, or room to write.
_EFFECTS: Final = frozenset(
    {
        "create",
        "draw",
        "revoke",
        "withdraw",
        "fence",
        "stage",
        "publish",
        "discard",
        "restore",
        "request_rotation",
    }
)


@dataclass(slots=True)
class Contacts:
    """The hosts that were reached: `answered` to anything, `worked` where something was written."""

    answered: set[str] = field(default_factory=set[str])
    worked: set[str] = field(default_factory=set[str])


class _Marked:
    """Passes every call on."""

    __slots__ = ("_contacts", "_inner", "_origin")

    def __init__(self, inner: object, origin: str, contacts: Contacts | None) -> None:
        self._inner: object = inner
        self._origin: str = origin
        self._contacts: Contacts | None = contacts

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self._inner, name)
        if not callable(found):
            return found
        call: Callable[..., object] = found

        def tag_errors(*args: object, **given: object) -> object:
            try:
                result = call(*args, **given)
            except Exception as error:
                forget_variables(error)
                if isinstance(error, RotatorError):
                    error.origin = error.origin or self._origin
                raise
            if self._contacts is not None and name not in _PURE:
                self._contacts.answered.add(self._origin)
                if name in _EFFECTS:
                    self._contacts.worked.add(self._origin)
            return result

        return tag_errors


def tag_errors(inner: T, origin: str, contacts: Contacts | None = None) -> T:
    """Return `inner` with every error that comes out of it tag_errors as from `origin`.

    `origin` is `target NAME` or `backend NAME`. Ask `inner` itself what it is able to do.
    `contacts` collects who has answered.
    """
    return cast("T", _Marked(inner, origin, contacts))
