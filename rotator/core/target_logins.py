"""What a look at a target found: its logins, and which of them nobody manages.

Each target has a chain of its own for this, which the report reads: it needs no access to the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from rotator.core.history import texts
from rotator.core.model import Kind, NewEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.core.model import Event, Json

# No secret can be called so.
_PREFIX: Final = "(logins) "
# A result that has not changed is recorded again after this time, so that it stays recent.
RECENT: Final = timedelta(days=1)
# So many names of each state are recorded; counts are of all.
MOST_NAMED: Final = 500


class LoginState(StrEnum):
    """What rotator knows of a login.

    `managed`: it belongs to a secret that rotator manages. `configured`: an entry names it, and nobody has
    adopted it yet. `orphan`: it bears a mark of rotator's, and the journal does not know it. `admin`:
    rotator itself uses it. `internal`: the server uses it. `unmanaged`: any other.
    """

    MANAGED = "managed"
    CONFIGURED = "configured"
    ORPHAN = "orphan"
    ADMIN = "admin"
    INTERNAL = "internal"
    UNMANAGED = "unmanaged"


# The state of a login of nobody's that cannot log in.
DISABLED: Final = "disabled"
# Nobody replaces these.
NOT_MANAGED: Final = (LoginState.UNMANAGED, LoginState.CONFIGURED, LoginState.ORPHAN)
# In the order of a report.
STATES: Final = (
    *(LoginState.MANAGED.value, *(one.value for one in NOT_MANAGED)),
    *(LoginState.ADMIN.value, LoginState.INTERNAL.value, DISABLED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLogins:
    """The logins of a target by state: how many, and the names of the first ones."""

    counts: Mapping[str, int]
    names: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, logins: Iterable[tuple[str, LoginState, bool]]) -> TargetLogins:
        """Return what logins add up to: the name of each, its state, and whether it can log in."""
        found: dict[str, set[str]] = {state: set() for state in STATES}
        for name, state, can_login in logins:
            counts = can_login or state not in NOT_MANAGED
            found[state.value if counts else DISABLED].add(name)
        return cls(
            counts={state: len(names) for state, names in found.items()},
            names={state: tuple(sorted(names)[:MOST_NAMED]) for state, names in found.items()},
        )

    @classmethod
    def from_event(cls, event: Event) -> TargetLogins:
        """Return what an event recorded."""
        counts, names = event.data.get("counts"), event.data.get("names")
        counted = counts if isinstance(counts, Mapping) else {}
        named = names if isinstance(names, Mapping) else {}
        return cls(
            counts={state: _number(counted.get(state)) for state in STATES},
            names={state: texts(named, state) for state in STATES},
        )

    @property
    def not_managed(self) -> int:
        """How many can log in that nobody replaces."""
        return sum(self.counts[state] for state in NOT_MANAGED)

    @property
    def not_managed_names(self) -> list[str]:
        """The names of those, as far as they were recorded."""
        return sorted(name for state in NOT_MANAGED for name in self.names[state])

    def differs(self, other: TargetLogins) -> bool:
        """Return whether something else than the names of managed logins differs: rotations change those."""
        managed = LoginState.MANAGED.value
        return self.counts != other.counts or any(
            self.names[state] != other.names[state] for state in STATES if state != managed
        )

    def event(self) -> NewEvent:
        """Return the event that records it."""
        names: dict[str, Json] = {state: list(self.names[state]) for state in STATES}
        return NewEvent(kind=Kind.LOGINS_LISTED, data={"counts": dict(self.counts), "names": names})


def chain_of(target: str) -> str:
    """Return the name of the chain of a target's logins."""
    return _PREFIX + target


def target_of(chain: str) -> str | None:
    """Return the target whose logins a chain records; None for any other chain."""
    return chain.removeprefix(_PREFIX) if chain.startswith(_PREFIX) else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
