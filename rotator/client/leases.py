"""Logins of an application's own, each for a limited time, from rotator's daemon or an agent.

from rotator.client import Agent, Credential

credential = Credential.leased("app-db", Agent())
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from rotator.client.chance import between
from rotator.client.credential import Credential
from rotator.client.daemon import DaemonError
from rotator.client.log import warn
from rotator.client.login import Login, SourceError
from rotator.client.refusals import Refusal, RefusedVersions
from rotator.client.sources.values import login_from

if TYPE_CHECKING:
    from rotator.client.daemon import Daemon

# The part of the time until the next lease should be taken, so that processes part ways.
_SHARES: Final = (0.9, 1.0)
_SHORTEST_PAUSE: Final = 1.0
# Seconds until a lease is asked for again, after an error: a tenth of the time of one, but not more.
_LONGEST_PAUSE: Final = 30.0
_ERROR_SHARE: Final = 0.1
# Seconds between two requests while connections wait for a login.
_BETWEEN_ERRORS: Final = 0.5
# Seconds until another lease is taken while the server has accepted none: doubled each time.
_FIRST_REST: Final = 1.0
_LONGEST_REST: Final = 60.0
_MOST_REFUSED: Final = 16
_numbers = itertools.count(1)


class LeaseSource:
    """Takes a lease each time that it is read: the answer is the only place that holds its password."""

    refresh: float = math.inf

    def __init__(
        self,
        secret: str,
        lender: Daemon,
        *,
        ttl: float | None,
        reason: str,
        clock: Callable[[], float],
    ) -> None:
        """Nothing is asked yet."""
        self._secret: str = secret
        self._lender: Daemon = lender
        self._ttl: float | None = ttl
        self._reason: str = reason
        self._clock: Callable[[], float] = clock
        self._number: int = next(_numbers)
        self._guard: threading.Lock = threading.Lock()
        # When each lease that was taken ends, and as which instance it was taken.
        self._held: dict[str, tuple[float, str]] = {}
        self._refused: list[str] = []
        self._is_closed: bool = False
        self.ends_at: float = math.inf
        self.take_next_in: float = 0.0
        self.lasts: float = 0.0

    def __repr__(self) -> str:
        return f"a lease of {self._secret} from {self._lender!r}"

    def read(self) -> Login:
        """Take the next lease. Raises `SourceError`."""
        if self._is_closed:
            raise SourceError(f"{self!r} is not taken: the credential is closed.")
        began, instance = self._clock(), self._lender.instance(self._number)
        asked: dict[str, object] = {"secret": self._secret, "instance": instance}
        if self._ttl is not None:
            asked["ttl"] = self._ttl
        if self._reason:
            asked["reason"] = self._reason
        if self._refused:
            asked["refused"] = self._refused
        answer = self._answer("", asked)
        id_, lasts, wait = (answer.get(key) for key in ("lease", "ends_in", "take_next_in"))
        if not (
            isinstance(id_, str)
            and isinstance(lasts, (int, float))
            and isinstance(wait, (int, float))
        ):
            raise SourceError(f"{self!r} came without its id or its times.")
        named = {key: answer.get(key) for key in ("username", "password")}
        login = login_from(
            {**(answer.get("fields") or {}), **named}, id_, repr(self), "username", "password"
        )
        # Counted from the request: the time on the way is not ours.
        self.ends_at, self.take_next_in, self.lasts = began + lasts, wait, lasts
        self._hold(id_, instance, self.ends_at)
        return login

    def refused(self, lease: str) -> None:
        """Note a lease that the server refused: it is not taken again."""
        with self._guard:
            self._refused = [*self._refused, lease][-_MOST_REFUSED:]

    def close(self) -> None:
        """End the leases that are left. What cannot be ended now ends in its time."""
        with self._guard:
            self._is_closed = True
            held, self._held = self._held, {}
        for lease, (ends_at, instance) in held.items():
            if ends_at > self._clock():
                self._release(lease, instance)

    def start_anew(self) -> None:
        """Leave the leases of the process that this one was forked from to that one."""
        self._guard = threading.Lock()
        self._held = {}

    def _hold(self, lease: str, instance: str, ends_at: float) -> None:
        now = self._clock()
        with self._guard:
            self._held = {one: held for one, held in self._held.items() if held[0] > now}
            if not self._is_closed:
                self._held[lease] = (ends_at, instance)
                return
        # The credential was closed while this one was on its way.
        self._release(lease, instance)
        raise SourceError(f"{self!r} is not taken: the credential is closed.")

    def _release(self, lease: str, instance: str) -> None:
        try:
            _ = self._answer("/release", {"lease": lease, "instance": instance})
        except SourceError as error:
            warn("the lease ends in its time, and not yet: %s", error)

    def _answer(self, path: str, asked: dict[str, object]) -> dict[str, Any]:
        try:
            answer = self._lender.lease(path, asked)
        except DaemonError as error:
            told = cast("dict[str, Any]", error.answer) if isinstance(error.answer, dict) else {}
            why = " ".join(str(told[key]) for key in ("error", "hint") if told.get(key))
            raise SourceError(f"{self!r}: {why or error}") from None
        return cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}


class LeasedCredential(Credential):
    """A login that is the application's own: made by `Credential.leased`, replaced before it ends.

    The next lease is taken in the background at two thirds of the time of this one, or what `overlap` in
    the secret's configuration leaves, with some chance; pools move to it while this one still works. A
    login that the server refused is never tried again: another lease is taken at once.
    """

    def __init__(
        self,
        secret: str,
        lender: Daemon,
        *,
        ttl: float | None = None,
        reason: str = "",
        patience: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is taken yet. Times are in seconds."""
        source = LeaseSource(secret, lender, ttl=ttl, reason=reason, clock=clock)
        super().__init__(source, patience=patience, clock=clock, sleep=sleep)
        self._leases: LeaseSource = source
        self._refusals: RefusedVersions = _NeverAgain(locks_accounts=False)
        # Whether the server has accepted the current lease, and how many before it were never accepted.
        self._is_accepted: bool = False
        self._unaccepted: int = 0

    def current(self) -> Login:
        """Return the login to use. One that has ended is replaced first, where that is possible."""
        if self._login is not None:
            now = self._clock()
            if now >= self._leases.ends_at and now >= self._refresh_at:
                try:
                    return self.refresh()
                except SourceError as error:
                    warn("the login has ended, and no other one is there: %s", error)
        return super().current()

    def close(self) -> None:
        """End the background threads, and the leases: close pools first, their connections end with these."""
        super().close()
        self._leases.close()

    def _wait_after(self, error: SourceError | None) -> float:
        """Return the seconds until the source is read again."""
        if error is not None:
            return min(max(self._leases.lasts * _ERROR_SHARE, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        return max(self._leases.take_next_in * between(*_SHARES), _SHORTEST_PAUSE)

    def _take(self, login: Login) -> list[Callable[[Login], None]]:
        before = self._login
        if before is None or before.version != login.version:
            with self._changed:
                self._unaccepted = (
                    0 if self._is_accepted or before is None else self._unaccepted + 1
                )
                self._is_accepted = False
        return super()._take(login)

    def _is_soon_to_read(self) -> bool:
        """Whether another lease would be one too many: no error of the server is worth a flood of logins."""
        with self._changed:
            rest = 0.0 if self._error is None else _BETWEEN_ERRORS
            if not self._is_accepted:
                rest = max(rest, min(_FIRST_REST * 2.0**self._unaccepted, _LONGEST_REST))
            return self._clock() - self._looked_at < rest

    def _accepted(self, login: Login) -> None:
        super()._accepted(login)
        with self._changed:
            if self._login is not None and self._login.version == login.version:
                self._is_accepted, self._unaccepted = True, 0

    def _was_refused(self, login: Login, refusal: Refusal | None) -> bool:
        if refusal is not None:
            self._leases.refused(login.version)
        return super()._was_refused(login, refusal)

    def _start_anew(self) -> None:
        super()._start_anew()
        self._leases.start_anew()


class _NeverAgain(RefusedVersions):
    """A lease whose login was refused once is over."""

    def take(self, version: str, now: float) -> bool:  # noqa: ARG002 # as that of a version
        """Return whether a lease may be tried: never after a refusal."""
        return self.first_refused(version) is None

    def clear(self) -> None:
        """Forget none."""
