"""A circuit breaker: nothing is started on a host that is away, but for one try from time to time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.backoff import backoff

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from rotator.core.daemon_settings import BreakerSettings


class Breaker:
    """The breaker of one host. Closed it allows every start, open none, half open one at a time.

    A fault of the host as a whole (`whole`: its admin is rejected, its disk is full) opens it at
    once, and only work that needs the host as a whole closes it again.
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings: BreakerSettings = settings
        self._failures: int = 0
        self._waits: int = 0
        self._until: datetime | None = None
        self._tried_at: datetime | None = None
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

    def allows(self, now: datetime, *, within: timedelta | None = None) -> bool:
        """Return whether something may be started on this host now.

        `within`: a host that does not answer is tried again after so long, also where its wait is longer.
        A rejected admin is not: each try could lock it.
        """
        until = self._until
        if until is None or self._trying:
            return until is None
        if within is not None and self._tried_at is not None and not self._whole:
            until = min(until, self._tried_at + within)
        return now >= until

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
        self._failures, self._waits, self._until = 0, 0, None
        self._trying = self._whole = False
        return was_open

    def failed(self, now: datetime, *, whole: bool = False) -> bool:
        """Note that the host was away; return whether the breaker opens by this."""
        self._failures += 1
        self._whole = self._whole or whole
        if not self._whole and self._failures < self._settings.failures:
            return False
        opened = not self.is_open
        if opened or self._trying:
            # Several that were under way when it went away count once.
            self._waits += 1
            settings = self._settings
            wait = backoff(self._waits, first=settings.wait, longest=settings.longest)
            self._until, self._tried_at, self._trying = now + wait, now, False
        return opened

    def released(self) -> None:
        """Note that the work ended without showing whether the host is away."""
        self._trying = False

    def opened_before(self, now: datetime, *, whole: bool) -> None:
        """Open it because another process has met the outage; one try is allowed now."""
        if not self.is_open:
            self._failures, self._waits, self._whole = self._settings.failures, 0, whole
        self._until = now
