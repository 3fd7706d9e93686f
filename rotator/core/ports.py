"""The ports of the engine: clock, entropy, log, journal. The composition names what fills them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Event, Lock, NewEvent


class Clock(Protocol):
    """Time. Nothing else reads a clock or sleeps."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Entropy(Protocol):
    """Chance. Nothing else draws random numbers."""

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to `limit - 1`, each as likely as the other."""
        ...

    def token(self, size: int) -> bytes:
        """Return `size` random bytes."""
        ...


class Log(Protocol):
    """A structured log: an event name and keyword facts. Never a secret among them."""

    def debug(self, event: str, **facts: object) -> object:
        """Log what only a developer wants to read."""
        ...

    def info(self, event: str, **facts: object) -> object:
        """Log that something happened as it should."""
        ...

    def warning(self, event: str, **facts: object) -> object:
        """Log what an operator should see in the morning."""
        ...

    def error(self, event: str, **facts: object) -> object:
        """Log a message that an operator should see immediately."""
        ...


class Journal(Protocol):
    """The audit journal: what has happened. Raises `JournalError` when it cannot be used."""

    def acquire(self, secret: str, holder: str, ttl: timedelta) -> Lock:
        """Take the right to work on `secret`, under a fence higher than any before.

        A lock that has expired, or whose holder is known to be dead, is taken over. Raises
        `Busy` while another holder has it.
        """
        ...

    def release(self, lock: Lock) -> None:
        """Give the lock back. No longer holding it is success."""
        ...

    def append(self, lock: Lock, events: Sequence[NewEvent], ttl: timedelta) -> list[Event]:
        """Write the events in one transaction, durably, and renew the lock by `ttl`.

        Raises `LockLost` when the fence is stale: then nothing is written.
        """
        ...

    def secret(self, secret: str) -> SecretRecord | None:
        """Return what the events of this secret add up to; None when it has none."""
        ...

    def secrets(self) -> list[SecretRecord]:
        """Return every secret that the journal knows, by name."""
        ...

    def open_rotation(self, secret: str) -> RotationRecord | None:
        """Return the rotation of this secret that has not ended, if there is one."""
        ...

    def rotation(self, rotation_id: str) -> RotationRecord | None:
        """Return one rotation."""
        ...

    def rotations(self, secret: str, limit: int = 50) -> list[RotationRecord]:
        """Return the newest rotations of a secret, newest first."""
        ...

    def history(self, rotation_id: str) -> list[Event]:
        """Return the events of one rotation in their order."""
        ...

    def events(self, secret: str, limit: int | None = None) -> list[Event]:
        """Return the newest `limit` events of a secret (all of them for None), oldest first."""
        ...
