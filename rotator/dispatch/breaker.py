"""A circuit breaker: a host that is away is left alone, but for one try from time to time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.serving import Breaking


class Breaker:
    """One host's. Closed it lets everything through, open nothing, half open one at a time."""

    def __init__(self, settings: Breaking) -> None:
        self._settings: Breaking = settings
        self._failures: int = 0
        self._wait: timedelta = timedelta(0)
        self._until: datetime | None = None
        self._trying: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the host was away when it was last tried."""
        return self._until is not None

    @property
    def until(self) -> datetime | None:
        """When the next try may be made; None while it is closed."""
        return self._until

    def allows(self, now: datetime) -> bool:
        """Return whether something may be started on this host now."""
        return self._until is None or (now >= self._until and not self._trying)

    def started(self) -> None:
        """Note a start: while the host is away it is the one try."""
        self._trying = self.is_open

    def succeeded(self) -> bool:
        """Note that the host has answered; return whether it was away until then."""
        was_open = self.is_open
        self._failures, self._wait, self._until, self._trying = 0, timedelta(0), None, False
        return was_open

    def failed(self, now: datetime) -> bool:
        """Note that the host was away; return whether it is left alone from now on."""
        self._failures += 1
        if self._failures < self._settings.failures:
            return False
        opened = not self.is_open
        if opened or self._trying:
            # Several that were under way when it went away count once.
            doubled = self._wait * 2 if self._wait else self._settings.wait
            self._wait = min(doubled, self._settings.longest)
            self._until, self._trying = now + self._wait, False
        return opened

    def released(self) -> None:
        """Note that what was started ended without a word about the host."""
        self._trying = False
