"""Work on a journal whose key another process may replace meanwhile."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from rotator.core.errors import JournalBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.journal.sql import SqlJournal

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def current_key(
    method: Callable[Concatenate[Any, _Given], _Found],
) -> Callable[Concatenate[Any, _Given], _Found]:
    """Do it again where the key of the journal was replaced meanwhile: all of it was rolled back.

    A row that this process cannot authenticate may be one that the newer key has sealed. For methods of
    a journal, or of what has one as `journal`.
    """

    @wraps(method)
    def again(self: Any, /, *given: _Given.args, **named: _Given.kwargs) -> _Found:
        journal: SqlJournal = getattr(self, "journal", self)
        before = journal.key
        try:
            return method(self, *given, **named)
        except JournalBroken:
            # Another thread may have loaded it already.
            loaded = before is not None and journal.key is not before
            if not loaded and not journal.reload_key():
                raise
        return method(self, *given, **named)

    return again
