"""Places where a process can die: before and after each call through a port, each effect."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from rotator.core.errors import RotatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.model import Step
    from rotator.testing.crash.promises import Promises

T = TypeVar("T")


class Crash(BaseException):
    """The process was killed: nothing in it acts any more, no `finally`, no release."""


class When(StrEnum):
    """Before a call has any effect, or after its effect and before its answer."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One place in one run: the `number`-th, at the `nth` call of `port.name`.

    `inner`: not at the port's door but inside one of its calls, around a single effect.
    """

    number: int
    when: When
    port: str
    name: str
    nth: int
    inner: bool = False

    def __str__(self) -> str:
        call = f"{self.port}.{self.name}" + (f" #{self.nth}" if self.nth > 1 else "")
        return f"{self.when} {call}"


class Points:
    """Every call of one process goes through here; `fault` is asked at each point and may raise.

    The promises are checked before and after each call.
    """

    def __init__(self, promises: Promises, fault: Callable[[Point], None] | None = None) -> None:
        self._promises: Promises = promises
        self.fault: Callable[[Point], None] = fault or _no_fault
        self._calls: Counter[str] = Counter()
        self._depth: int = 0
        self.passed: list[Point] = []
        self.dead: bool = False

    def call(
        self,
        port: str,
        name: str,
        run: Callable[[], T],
        *,
        effect_of: Step | tuple[Step, ...] | None = None,
    ) -> T:
        """Make one call. `effect_of`: the step, or one of several, whose committed intent must be there."""
        if self.dead:
            raise Crash
        label, inner = f"{port}.{name}", self._depth > 0
        self._calls[label] += 1
        nth = self._calls[label]
        self._depth += 1
        try:
            self._meet(When.BEFORE, port, name, nth, inner=inner)
            if effect_of is not None:
                steps = effect_of if isinstance(effect_of, tuple) else (effect_of,)
                self._promises.check_intent(steps, self.passed[-1])
            try:
                return run()
            finally:
                self._meet(When.AFTER, port, name, nth, inner=inner)
        finally:
            self._depth -= 1

    def _meet(self, when: When, port: str, name: str, nth: int, *, inner: bool) -> None:
        if self.dead:
            return
        number = len(self.passed) + 1
        point = Point(number=number, when=when, port=port, name=name, nth=nth, inner=inner)
        self.passed.append(point)
        self._promises.check(point)
        try:
            self.fault(point)
        except Crash:
            self.dead = True
            self._promises.died_at.append(point)
            raise
        except RotatorError:
            self._promises.died_at.append(point)
            raise


def _no_fault(_point: Point) -> None:
    """Let everything go well."""
