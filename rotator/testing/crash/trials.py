"""What can go wrong at one point: the process dies there, or the call fails as its contract allows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rotator.core.errors import (
    Conflict,
    Denied,
    JournalError,
    Refused,
    RotatorError,
    Transient,
    Unknown,
)
from rotator.testing.crash.points import Crash, Point, When

Fault = Callable[[Point], None]

# What each port may raise before it acts. After the effect only the answer can be lost: `Transient`
# and `Denied` mean that nothing happened. A `Conflict` in the backend is not made up but made:
# `explore_strangers` lets somebody else write.
_BEFORE: Final[dict[str, tuple[type[RotatorError], ...]]] = {
    "journal": (JournalError,),
    "backend": (Transient, Unknown, Denied),
    "copy": (Transient, Unknown, Denied),
    "rotation": (Transient, Unknown, Denied, Conflict),
}
_NOT_THE_PLUGIN: Final = frozenset({"journal", "backend", "copy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One fault at one point of the undisturbed run."""

    place: str
    point: Point
    fault: Fault

    @property
    def is_death(self) -> bool:
        """Whether the process dies of it: then the rotation may only end as if it had not."""
        return self.place.startswith("crash ")


def deaths(points: Sequence[Point]) -> list[Trial]:
    """Return a death at each point."""
    return [
        Trial(place=f"crash {point}", point=point, fault=crash_at(point.number)) for point in points
    ]


def failures(points: Sequence[Point]) -> list[Trial]:
    """Return each failure of each call that its contract allows, before and after its effect."""
    return [
        Trial(
            place=f"{kind.__name__} {point}",
            point=point,
            fault=fail(kind, lambda other, number=point.number: other.number == number),
        )
        for point in points
        for kind in _errors(point)
    ]


def drawn(trials: Sequence[Trial], count: int, seed: str) -> list[Trial]:
    """Return `count` of the trials by chance, the same for the same seed.

    Those at the plugin's own calls come first: a death at the journal's or the backend's leaves the
    target as the nearest of these does.
    """
    shuffled = random.Random(seed).sample(trials, len(trials))  # noqa: S311 # repeatable on purpose
    return sorted(shuffled, key=lambda one: one.point.port in _NOT_THE_PLUGIN)[:count]


def crash_at(number: int) -> Fault:
    """Return a death at the point of this number."""

    def fault(point: Point) -> None:
        if point.number == number:
            raise Crash

    return fault


def fail(kind: type[RotatorError], at: Callable[[Point], bool]) -> Fault:
    """Return a failure of this kind wherever `at` says so."""

    def fault(point: Point) -> None:
        if at(point):
            raise kind(f"made to fail {point}.")

    return fault


def _errors(point: Point) -> Iterator[type[RotatorError]]:
    if point.when is When.AFTER or point.inner:
        yield JournalError if point.port == "journal" else Unknown
        return
    yield from _BEFORE[point.port]
    if (point.port, point.name) in (("rotation", "create"), ("rotation", "verify")):
        yield Refused
