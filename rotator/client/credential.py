"""An application's view of one secret: the login that is served now, cached, refreshed, never hammered."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rotator.client.chance import between
from rotator.client.forks import call_after_fork
from rotator.client.log import warn
from rotator.client.login import LEVELS, Health, Login, Refused, ServesNext, Source, SourceError
from rotator.client.refusals import Refusal, RefusedVersions

if TYPE_CHECKING:
    from rotator.client.daemon import Daemon
    from rotator.client.daemon_link import DaemonLink

_T = TypeVar("_T")

# Seconds between two looks for another version, after a refusal: doubled each time.
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
# Seconds between two reads of the source, once a version has been refused for longer than this.
_READS_APART: Final = 1.0
_LONG_REFUSED: Final = 5.0
# Seconds until a source that failed is read again, unless `refresh` is shorter.
_AFTER_AN_ERROR: Final = 30.0


class _Read:
    """A request of `_attempts`: read the source again."""


class _ReadNext:
    """A request of `_attempts`: read the version that comes next."""


_Request = Login | _Read | _ReadNext | float


class Credential:
    """The login of one secret. Safe between threads, and to be shared by all of a process.

    A cached value is used at once and refreshed in the background; while the backend is
    unreachable, the cached value is used without end. After a refusal *another* version is tried:
    the next one where the source serves it, then what a fresh read returns, for at most `patience`
    seconds. The refused version is tried again as `rotator.client.refusals` describes: within two
    seconds, or after a minute and more where the account could be locked.
    """

    def __init__(
        self,
        source: Source,
        *,
        refresh: float | None = None,
        patience: float = 5.0,
        locks_accounts: bool = False,
        daemon: Daemon | None = None,
        name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is read yet. `refresh` and `patience` are in seconds.

        Set `locks_accounts` for a PostgreSQL that locks accounts after failed logins, by a module
        or by the directory behind LDAP or PAM. With `daemon`, each version that is loaded or used is
        acknowledged, and a new one is read as soon as it is published; `name` is the secret's name in
        rotator's configuration. Raises `ValueError` for a daemon without a name.
        """
        if daemon is not None and not name:
            raise ValueError(
                "a credential with a daemon needs the secret's `name` in its configuration."
            )
        self._source: Source = source
        self._refresh: float = source.refresh if refresh is None else refresh
        self._patience: float = patience
        self._clock: Callable[[], float] = clock
        self._sleep: Callable[[float], None] = sleep
        self._changed: threading.Condition = threading.Condition()
        self._login: Login | None = None
        # The version that comes next, as it was last read; and the one that the server has accepted
        # before the source serves it.
        self._next: Login | None = None
        self._ahead: Login | None = None
        self._read_at: float = 0.0
        # When the source was last asked, whatever it answered.
        self._looked_at: float = 0.0
        self._refresh_at: float = 0.0
        self._reads: int = 0
        self._is_reading: bool = False
        self._error: SourceError | None = None
        self._refusals: RefusedVersions = RefusedVersions(locks_accounts=locks_accounts)
        # The version before the one that is served: a login with it is no news to the daemon.
        self._earlier: str | None = None
        self._link: DaemonLink | None = _link(daemon, name) if daemon is not None and name else None
        self._subscribers: list[Callable[[Login], None]] = []
        self._threads: list[threading.Thread] = []
        self._closed: threading.Event = threading.Event()
        call_after_fork(self._start_anew)

    def __repr__(self) -> str:
        return f"Credential({self._source!r})"

    @classmethod
    def leased(
        cls,
        secret: str,
        lender: Daemon,
        *,
        ttl: float | None = None,
        reason: str = "",
        patience: float = 5.0,
    ) -> Credential:
        """Return a credential whose logins are this process's own, each for a limited time.

        `lender`: the `Daemon`, or the `Agent` of this machine. The next login is taken before one ends, at
        the latest after two thirds of its time, and pools move to it meanwhile. `ttl`: seconds that one
        lasts, else what the secret's `leases` say; `reason`: what it is for. `close` ends them. Nothing is
        taken yet.
        """
        from rotator.client.leases import LeasedCredential  # noqa: PLC0415 # for those who lease

        return LeasedCredential(secret, lender, ttl=ttl, reason=reason, patience=patience)

    # -- reading -------------------------------------------------------------------------------

    def current(self) -> Login:
        """Return the login to use. Raises `SourceError` only where nothing was ever read."""
        login = self._login
        if login is None:
            return self.refresh()
        if self._clock() >= self._refresh_at:
            self._refresh_in_background()
        return login

    def pair(self) -> tuple[Login, Login | None]:
        """Return the current login and the one that comes next, where the source serves it.

        Raises `SourceError`.
        """
        following = self.read_next()
        return self.current(), following

    @property
    def following(self) -> Login | None:
        """The version that comes next, as it was last read; None where there was none."""
        return self._next

    def read_next(self) -> Login | None:
        """Read the version that comes next, and keep it for the first refusal of the current one.

        None where there is none, or where the source does not serve it. Raises `SourceError`.
        """
        following = self._source.next() if isinstance(self._source, ServesNext) else None
        with self._changed:
            if following is None or following != self._next:
                self._next = following
            following = self._next
        if self._link is not None and following is not None and following.rotation is not None:
            self._link.prepared(following.rotation)
        return following

    def forget_next(self) -> None:
        """Forget the version that was to come next: its rotation is over."""
        with self._changed:
            self._next = self._ahead = None

    def refresh(self) -> Login:
        """Read the source now, or wait for the read in flight. Raises `SourceError`."""
        with self._changed:
            if self._is_reading:
                reads = self._reads
                _ = self._changed.wait_for(lambda: self._reads != reads)
                if self._error is not None:
                    raise SourceError(str(self._error))
                assert self._login is not None  # noqa: S101 # a read without an error has set it
                return self._login
            self._is_reading = True
        return self._read()

    def is_outdated(self, version: str) -> bool:
        """Whether a connection that was opened with `version` should be replaced."""
        current, ahead = self.current().version, self._ahead
        if ahead is not None and version == ahead.version:
            return False  # it is about to be published
        return version != current

    def health(self) -> Health:
        """Return what an application's health check may show: no secret in it."""
        with self._changed:
            login, error = self._login, self._error
            return Health(
                version=login.version if login else None,
                age=self._clock() - self._read_at if login else None,
                is_stale=error is not None,
                error=str(error) if error else None,
                refused=self._refusals.count,
                daemon_error=self._link.error if self._link else None,
            )

    def ack(self, level: str = "used") -> None:
        """Acknowledge the current version to the daemon: "read", "loaded" or "used".

        The adapters do so after each login: call it where your own code connects. Without a daemon
        it does nothing. Raises `ValueError` for another level.
        """
        if level not in LEVELS:
            raise ValueError(f"the level {level!r} is none of {', '.join(LEVELS)}.")
        if self._link is not None:
            self._link.acknowledge(self.current().version, level)

    def _refresh_in_background(self) -> None:
        with self._changed:
            if self._is_reading:
                return
            self._is_reading = True
        threading.Thread(target=self._read_quietly, name="rotator-refresh", daemon=True).start()

    def _read_quietly(self) -> None:
        try:
            _ = self._read()
        except SourceError as error:
            warn("the cached login stays in use: %s", error)

    def _read(self) -> Login:
        """Read the source: the caller has set `_is_reading`."""
        self._looked_at = self._clock()
        try:
            login = self._source.read()
        except BaseException as error:
            failed = isinstance(error, SourceError)
            self._failed(error if failed else SourceError("the read was interrupted."))
            raise
        subscribers = self._take(login)
        if self._link is not None:
            self._link.acknowledge(login.version, "loaded")
        for subscriber in subscribers:
            subscriber(login)
        return login

    def _take(self, login: Login) -> list[Callable[[Login], None]]:
        """Keep what was read; return the subscribers, where it is another version than before."""
        with self._changed:
            before, self._login = self._login, login
            was_used = False
            if before is not None and before.version != login.version:
                # A login with it may have succeeded before it was published.
                was_used, self._ahead = _is_same(self._ahead, login), None
                if self._next is not None and self._next.version == login.version:
                    self._next = None
            self._read_at, self._error = self._clock(), None
            self._end_read(self._wait_after(None))
            self._start_threads()
            if before is None or before.version == login.version:
                return []
            self._earlier = before.version
            self._refusals.clear()
            subscribers = list(self._subscribers)
        if was_used and self._link is not None:
            self._link.acknowledge(login.version, "used")
        return subscribers

    def _failed(self, error: SourceError) -> None:
        with self._changed:
            self._error = error
            self._end_read(self._wait_after(error))

    def _wait_after(self, error: SourceError | None) -> float:
        """Return the seconds until the source is read again."""
        wait = self._refresh if error is None else min(self._refresh, _AFTER_AN_ERROR)
        # Processes that started together do not read together for ever.
        return wait * between(0.5, 1.0)

    def _end_read(self, wait: float) -> None:
        self._is_reading = False
        self._reads += 1
        self._refresh_at = self._clock() + wait
        self._changed.notify_all()

    # -- changes -------------------------------------------------------------------------------

    def on_change(self, subscriber: Callable[[Login], None]) -> Callable[[], None]:
        """Call `subscriber` with each new login, from whichever thread read it; return what ends that."""
        with self._changed:
            self._subscribers.append(subscriber)
            self._start_threads()

        def unsubscribe() -> None:
            with self._changed:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)

        return unsubscribe

    def close(self) -> None:
        """End the background threads. The cached login can still be used; the daemon stays open."""
        self._closed.set()

    def _start_threads(self) -> None:
        """Start those that are needed: the caller holds the lock."""
        running = {thread.name for thread in self._threads}
        needed: list[tuple[str, Callable[[], None]]] = []
        if self._subscribers:
            needed.append(("rotator-watch", self._look))
        if self._link is not None and self._login is not None:
            needed.append(("rotator-daemon", self._follow))
        for name, work in needed:
            if name not in running and not self._closed.is_set():
                thread = threading.Thread(target=work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _start_anew(self) -> None:
        """Start anew in a forked process: its threads start with its first read, which is due."""
        self._changed = threading.Condition()
        self._is_reading = False
        self._refresh_at = 0.0
        self._threads = []
        was_closed, self._closed = self._closed.is_set(), threading.Event()
        if was_closed:
            self._closed.set()
        if self._link is not None:
            self._link.start_anew()

    def _follow(self) -> None:
        assert self._link is not None  # noqa: S101 # the thread runs with a link alone
        self._link.follow(
            lambda: self.current().version, self._read_now, self._prepare, self._closed
        )

    def _prepare(self, rotation: str) -> None:
        """Read the next version, of this rotation; forget it where there is none any more."""
        if not rotation:
            self.forget_next()
            return
        try:
            _ = self.read_next()
        except Exception as error:  # noqa: BLE001 # a source's: the thread goes on
            is_expected = isinstance(error, SourceError)
            text = error if is_expected else type(error).__name__
            warn("the next version is not read yet: %s", text)

    def _read_now(self) -> None:
        try:
            _ = self.refresh()
        except Exception as error:  # noqa: BLE001 # a subscriber's or a source's: the thread goes on
            is_expected = isinstance(error, SourceError)
            warn(
                "the new version is not read yet: %s",
                error if is_expected else type(error).__name__,
            )

    def _look(self) -> None:
        while not self._closed.wait(max(0.05, min(self._refresh_at - self._clock(), 1.0))):
            if self._clock() >= self._refresh_at:
                self._refresh_in_background()

    # -- connecting ----------------------------------------------------------------------------

    def connect(
        self,
        connect: Callable[[Login], _T],
        *,
        refusal_of: Callable[[BaseException], Refusal | None],
    ) -> _T:
        """Return what `connect` returns for the first login that the server accepts.

        `refusal_of` decides by the driver's error whether the server refused the login. Every other
        error is raised as it is. Raises the driver's error, or `Refused` where every version that
        is known was refused a moment ago and is not tried again yet.
        """
        attempts, answer = self._attempts(), None
        request = next(attempts)
        while True:
            if isinstance(request, Login):
                try:
                    connection = connect(request)
                except BaseException as error:
                    if not self._was_refused(request, refusal_of(error)):
                        raise
                    answer = error
                else:
                    self._accepted(request)
                    return connection
            elif isinstance(request, (float, int)):
                self._sleep(request)
                answer = None
            else:
                answer = self._answer(request)
            request = attempts.send(answer)

    async def connect_async(
        self,
        connect: Callable[[Login], Awaitable[_T]],
        *,
        refusal_of: Callable[[BaseException], Refusal | None],
    ) -> _T:
        """As `connect`, without blocking the event loop while the source is read."""
        import asyncio  # noqa: PLC0415 # half of this module's import time, for those who use it

        attempts, answer = self._attempts(), None
        request = await asyncio.to_thread(next, attempts)
        while True:
            if isinstance(request, Login):
                try:
                    connection = await connect(request)
                except BaseException as error:
                    if not self._was_refused(request, refusal_of(error)):
                        raise
                    answer = error
                else:
                    self._accepted(request)
                    return connection
            elif isinstance(request, (float, int)):
                await asyncio.sleep(request)
                answer = None
            else:
                answer = await asyncio.to_thread(self._answer, request)
            request = attempts.send(answer)

    def _answer(self, request: _Read | _ReadNext) -> Login | None:
        is_soon = self._is_soon_to_read()
        try:
            if isinstance(request, _Read):
                return self._login if is_soon else self.refresh()
            # What the daemon announced is read already: no connection waits for the backend.
            kept = self._next
            if (
                kept is not None
                and self._link is not None
                and self._link.following == kept.rotation
            ):
                return kept
            return kept if is_soon else self.read_next()
        except SourceError as error:
            warn("no other login could be read: %s", error)
            return None

    def _is_soon_to_read(self) -> bool:
        """Whether a read would be too soon: a refusal that lasts is no reason to hammer the backend."""
        with self._changed:
            now, login = self._clock(), self._login
            first = None if login is None else self._refusals.first_refused(_key(login))
            lasts = first is not None and now - first > _LONG_REFUSED
            return lasts and now - self._looked_at < _READS_APART

    def _attempts(self) -> Generator[_Request, Any, None]:
        """Yield what to do next, and be sent what came of it; ends by the last refusal."""
        login, refusal = self.current(), None
        with self._changed:
            # What the server takes already; else what was read last: both may have changed just now.
            login = self._ahead or self._login or login
        deadline, pause = None, _FIRST_PAUSE
        may_try = self._may_try(login)
        while True:
            if may_try:
                refusal = yield login
            deadline = self._clock() + self._patience if deadline is None else deadline
            for request in (_ReadNext(), _Read()):
                # Where it is the same version, its rest may be over.
                other: Login | None = yield request
                if other is not None and self._may_try(other):
                    login, may_try = other, True
                    break
            else:
                may_try = False
                left = deadline - self._clock()
                if left <= 0:
                    raise refusal or Refused(
                        f"the server refused version {login.version} of {self._source!r} a moment ago, and no other version is served. It is tried again later."
                    )
                _ = yield float(min(pause, left))
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _may_try(self, login: Login) -> bool:
        with self._changed:
            return self._refusals.take(_key(login), self._clock())

    def _was_refused(self, login: Login, refusal: Refusal | None) -> bool:
        """Note what came of an attempt that failed; return whether it was a refusal."""
        with self._changed:
            if refusal is None:
                self._refusals.undecided(_key(login), self._clock())
            else:
                self._refusals.refused(_key(login), refusal, self._clock())
                if login is self._ahead:
                    self._ahead = None
        return refusal is not None

    def _accepted(self, login: Login) -> None:
        with self._changed:
            self._refusals.accepted(_key(login))
            if login is self._next or self._replaces_served(login):
                self._ahead = login
            is_next = login is self._ahead
            # The daemon does not know the next version until it is published.
            is_news = login.version != self._earlier and not is_next
        if is_news and self._link is not None:
            self._link.acknowledge(login.version, "used")

    def _replaces_served(self, login: Login) -> bool:
        """Whether the server takes a login in place of what is served, which it has refused.

        It may be the next version no longer: another one was announced while the login was under way.
        """
        served = self._login
        if served is None or _is_same(served, login):
            return False
        return self._refusals.first_refused(_key(served)) is not None


def _key(login: Login) -> str:
    """Return what a version is known by; an undone rotation's next has the number of the one after it."""
    return login.version if login.rotation is None else f"{login.rotation}:{login.version}"


def _is_same(following: Login | None, login: Login) -> bool:
    return following is not None and (following.version, following.password) == (
        login.version,
        login.password,
    )


def _link(daemon: Daemon, secret: str) -> DaemonLink:
    from rotator.client.daemon_link import DaemonLink  # noqa: PLC0415 # for those who have a daemon

    return DaemonLink(daemon, secret)
