"""Skips the secrets of a host that is away, with one message for all of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotator.core.daemon_settings import BreakerSettings
from rotator.core.errors import RETRIED, JournalError, RotatorError, Unavailable
from rotator.dispatch.breaker import Breaker
from rotator.dispatch.outages import OutageCause, ended_by_command, noted_by_command
from rotator.dispatch.ready_queue import JOURNAL, hosts
from rotator.faces.wording import plural

if TYPE_CHECKING:
    from rotator.bootstrap import App
    from rotator.engine import Result

# After so many failures in a row a host counts as away; an unavailable one does at once.
_BREAKING: Final = BreakerSettings(failures=3)


class HostAway(RotatorError):
    """A target or backend is unavailable, so its secrets wait."""

    kind = "unavailable"


@dataclass(slots=True, kw_only=True)
class Away:
    """An unavailable host, and the secrets that wait for it."""

    fault: OutageCause
    secrets: list[str] = field(default_factory=list[str])

    def error(self) -> HostAway:
        """Return one error for all of the secrets."""
        names = self.secrets
        who = (
            f"secret {names[0]} waits"
            if len(names) == 1
            else f"{plural(len(names), 'secret')} wait"
        )
        again = "Then run the same command again; a daemon continues automatically."
        error = HostAway(
            f"{self.fault.host} is unavailable, so {who}: {self.fault.what}",
            safety="No retries were used, and no secret was parked.",
            hint=f"{self.fault.hint} {again}".strip(),
        )
        error.secret = names[0] if len(names) == 1 else None
        return error


class HeldHosts:
    """The hosts that this command found unavailable. Used by several threads."""

    def __init__(self, app: App) -> None:
        self._app: App = app
        self._guard: threading.Lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}
        self.away: dict[str, Away] = {}
        self._worked: set[str] = set()

    def holds_back(self, name: str) -> bool:
        """Return whether a secret is skipped because one of its hosts is away."""
        chosen = self._app.entry(name)
        with self._guard:
            for host in hosts((chosen.target, chosen.backend)):
                if self._breaker(host).is_open:
                    self.away[host].secrets.append(name)
                    return True
        return False

    def met(self, name: str, error: BaseException | None, result: Result | None) -> bool:
        """Record the result of one secret; return whether it waits for a host."""
        error = error or (result.error if result is not None else None)
        with self._guard:
            if result is not None:
                self._worked |= result.worked
            fault = _fault(error, result)
            if fault is None:
                return False
            breaker = self._breaker(fault.host)
            whole = fault.kind in (Unavailable.kind, JournalError.kind)
            if breaker.failed(self._app.clock.now(), whole=whole):
                self.away[fault.host] = Away(fault=fault)
            if whole:
                self.away[fault.host].secrets.append(name)
            return whole

    def remember(self) -> None:
        """Record unavailable hosts for other processes, such as `rotator status`."""
        now, observations = self._app.clock.now(), self._app.observations
        for one in self.away.values():
            noted_by_command(observations, one.fault, now)
        ended_by_command(observations, frozenset(self._worked) - self.away.keys())

    def _breaker(self, host: str) -> Breaker:
        return self._breakers.setdefault(host, Breaker(_BREAKING))


def _fault(error: BaseException | None, result: Result | None) -> OutageCause | None:
    if isinstance(error, JournalError) and error.kind == JournalError.kind:
        return OutageCause(host=JOURNAL, kind=error.kind, what=error.what, hint=error.hint)
    if not isinstance(error, RotatorError) or error.origin is None or error.kind not in RETRIED:
        return None
    answered = result.answered if result is not None else frozenset[str]()
    if error.kind != Unavailable.kind and error.origin in answered:
        return None
    return OutageCause(host=error.origin, kind=error.kind, what=error.what, hint=error.hint)
