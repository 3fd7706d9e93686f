"""A circuit breaker: a host that is away is left alone, but for one try from time to time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.daemon_settings import BreakerSettings


class Breaker:
    """One host's. Closed it lets everything through, open nothing, half open one at a time.

    A fault of the host as a whole (`whole`: its admin is rejected, its disk is full) opens it at
    once, and only work that needs the host as a whole closes it again.
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings: BreakerSettings = settings
        self._failures: int = 0
        self._wait: timedelta = timedelta(0)
        self._until: datetime | None = None
        self._trying: bool = False
        self._whole: bool = False

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

    def succeeded(self, *, worked: bool = True) -> bool:
        """Note that the host has answered; return whether it was away until then.

        `worked`: an effect succeeded there, not only a look.
        """
        if self._whole and not worked:
            self._trying = False
            return False
        was_open = self.is_open
        self._failures, self._wait, self._until = 0, timedelta(0), None
        self._trying = self._whole = False
        return was_open

    def failed(self, now: datetime, *, whole: bool = False) -> bool:
        """Note that the host was away; return whether it is left alone from now on."""
        self._failures += 1
        self._whole = self._whole or whole
        if not self._whole and self._failures < self._settings.failures:
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

    def opened_before(self, now: datetime, *, whole: bool) -> None:
        """Take over what another process has met: leave the host alone, but for a try now."""
        if not self.is_open:
            self._failures, self._wait, self._whole = self._settings.failures, timedelta(0), whole
        self._until = now
