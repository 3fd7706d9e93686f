"""Small real classes in the place of the sandbox: a clock that is set, chance that repeats itself."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.contracts.rotation import StepContext
from rotator.core.passwords import PasswordPolicy

if TYPE_CHECKING:
    from rotator.core.model import Credential
    from rotator.core.ports import Clock, Entropy, Log

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class ManualClock:
    """A clock that stands still until it is moved; sleeping moves it."""

    at: datetime = START

    def now(self) -> datetime:
        """Return the time it was set to."""
        return self.at

    def monotonic(self) -> float:
        """Return the seconds since `START`."""
        return (self.at - START).total_seconds()

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.at += timedelta(seconds=seconds)

    def advance(self, by: timedelta) -> None:
        """Move on."""
        self.at += by


class SeededEntropy:
    """Chance that is the same in every run with the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 # repeatable on purpose, never used outside tests

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to `limit - 1`."""
        return self._random.randrange(limit)

    def token(self, size: int) -> bytes:
        """Return `size` bytes."""
        return self._random.randbytes(size)


@dataclass(slots=True)
class ListLog:
    """A log that keeps what it is told."""

    lines: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def debug(self, event: str, **facts: object) -> None:
        """Keep the line."""
        self.lines.append(("debug", event, facts))

    def info(self, event: str, **facts: object) -> None:
        """Keep the line."""
        self.lines.append(("info", event, facts))

    def warning(self, event: str, **facts: object) -> None:
        """Keep the line."""
        self.lines.append(("warning", event, facts))

    def error(self, event: str, **facts: object) -> None:
        """Keep the line."""
        self.lines.append(("error", event, facts))


def step_context(
    *,
    secret: str = "app",
    path: str = "",
    rotation_id: str = "00000000-0000-4000-8000-000000000001",
    current: Credential | None = None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    log: Log | None = None,
    passwords: PasswordPolicy | None = None,
    timeout: float = 30.0,
    adopted: frozenset[str] = frozenset(),
    end_sessions: bool = False,
) -> StepContext:
    """Return a context for calling a plugin directly. `timeout` is in seconds."""
    clock, entropy = clock or ManualClock(), entropy or SeededEntropy()
    policy = passwords or PasswordPolicy()
    return StepContext(
        secret=secret,
        path=path,
        rotation_id=rotation_id,
        current=current,
        deadline=clock.monotonic() + timeout,
        clock=clock,
        entropy=entropy,
        log=log or ListLog(),
        new_password=lambda: policy.generate(entropy),
        adopted=adopted,
        end_sessions=end_sessions,
    )
