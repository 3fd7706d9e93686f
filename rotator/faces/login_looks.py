"""The daemon's daily look at the logins of each target, which the report quotes."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from rotator.core.errors import RotatorError, UsageError
from rotator.core.target_logins import RECENT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from rotator.core.ports import Clock, Log

# A look that failed is repeated after this time.
_AGAIN: Final = timedelta(hours=1)


class Looks(Protocol):
    """Looks at targets."""

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    def discover(self, target: str) -> Sequence[object]:
        """List the logins of a target, and record them."""
        ...

    def looked_at(self, target: str) -> datetime | None:
        """Return when they were recorded last."""
        ...


class LoginLooks:
    """Looks at each target whose record is a day old. `look` is called again and again."""

    def __init__(self, log: Log, should_stop: Callable[[], bool]) -> None:
        """Nothing is looked at yet."""
        self._log: Log = log
        self._should_stop: Callable[[], bool] = should_stop
        self._guard: threading.Lock = threading.Lock()
        self._not_before: dict[str, datetime] = {}

    def look(self, app: Looks, targets: Iterable[str], away: Collection[str]) -> None:
        """Look at what is to be looked at now. `away`: targets that are unavailable are left alone."""
        with self._guard:
            for target in targets:
                if self._should_stop():
                    return
                if f"target {target}" not in away:
                    self._look_at(app, target)

    def _look_at(self, app: Looks, target: str) -> None:
        now = app.clock.now()
        if now < self._not_before.get(target, now):
            return
        self._not_before[target] = now + _AGAIN
        try:
            seen = app.looked_at(target)
            if seen is None or seen <= now - RECENT:
                _ = app.discover(target)
        except UsageError as error:
            # Its plugin cannot list logins: the report states that nobody looked.
            self._not_before[target] = now + RECENT
            self._log.debug("logins", target=target, what=error.what)
        except RotatorError as error:
            self._log.warning("logins", target=target, what=error.what)
