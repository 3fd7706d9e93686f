"""An application's view of one secret: the login that is served now, cached, refreshed, never hammered."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from rotator.core.secret import Secret
from rotator.core.version_mark import version_mark

_T = TypeVar("_T")
_log = logging.getLogger("rotator.client")

# Seconds between two looks for another version, after a refusal: doubled each time.
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
# Seconds until a refused version may be tried once more: doubled each time.
_FIRST_REST: Final = 60.0
_LONGEST_REST: Final = 900.0
# Seconds until a source that failed is read again, unless `refresh` is shorter.
_AFTER_AN_ERROR: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One version of a secret. `fields` holds what else is kept with it, such as the host."""

    username: str
    password: Secret
    version: str
    fields: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)

    @property
    def mark(self) -> str:
        """Six hexadecimal digits that stand for the version; nothing of the secret is in them."""
        return version_mark(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How up to date a `Credential` is. `age` is in seconds since the last successful read."""

    version: str | None
    age: float | None
    is_stale: bool
    error: str | None
    refused: int


class SourceError(Exception):
    """The secret could not be read. Its text holds no secret."""


class Refused(Exception):
    """The server refused the version that is served, and no other one appeared in time."""


class Source(Protocol):
    """Where a secret is read. `refresh` is how long a value is used before it is read again, in seconds."""

    refresh: float

    def read(self) -> Login:
        """Return the version that is served now. Raises `SourceError`."""
        ...


@runtime_checkable
class ServesNext(Protocol):
    """A source that can also read the version that is about to be served."""

    def next(self) -> Login | None:
        """Return the version that comes next; None where there is none. Raises `SourceError`."""
        ...


@dataclass(slots=True)
class _Refusal:
    count: int
    until: float


class _Read:
    """A request of `_attempts`: read the source again."""


class _ReadNext:
    """A request of `_attempts`: read the version that comes next."""


_Request = Login | _Read | _ReadNext | float


class Credential:
    """The login of one secret. Safe between threads, and to be shared by all of a process.

    A cached value is used at once and refreshed in the background; while the backend is
    unreachable, the cached value is used without end. After a refusal only *another* version is
    tried: the next one where the source serves it, then what a fresh read returns, for at most
    `patience` seconds. A refused version is tried again after a minute at the earliest, then after
    two, four, at most fifteen, so that no server locks the account because of us.
    """

    def __init__(
        self,
        source: Source,
        *,
        refresh: float | None = None,
        patience: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is read yet. `refresh` and `patience` are in seconds."""
        self._source: Source = source
        self._refresh: float = source.refresh if refresh is None else refresh
        self._patience: float = patience
        self._clock: Callable[[], float] = clock
        self._sleep: Callable[[float], None] = sleep
        self._changed: threading.Condition = threading.Condition()
        self._login: Login | None = None
        self._read_at: float = 0.0
        self._refresh_at: float = 0.0
        self._reads: int = 0
        self._is_reading: bool = False
        self._error: SourceError | None = None
        self._refusals: dict[str, _Refusal] = {}
        self._refused: int = 0
        self._subscribers: list[Callable[[Login], None]] = []
        self._watch: threading.Thread | None = None
        self._closed: threading.Event = threading.Event()

    def __repr__(self) -> str:
        return f"Credential({self._source!r})"

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
        """Return the current login and the one that comes next, where the source serves it."""
        following = self._source.next() if isinstance(self._source, ServesNext) else None
        return self.current(), following

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
        return version != self.current().version

    def health(self) -> Health:
        """Return what an application's health check may show: no secret in it."""
        with self._changed:
            login, error = self._login, self._error
            return Health(
                version=login.version if login else None,
                age=self._clock() - self._read_at if login else None,
                is_stale=error is not None,
                error=str(error) if error else None,
                refused=self._refused,
            )

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
            _log.warning("the cached login stays in use: %s", error)

    def _read(self) -> Login:
        """Read the source: the caller has set `_is_reading`."""
        try:
            login = self._source.read()
        except BaseException as error:
            failed = isinstance(error, SourceError)
            self._failed(error if failed else SourceError("the read was interrupted."))
            raise
        for subscriber in self._take(login):
            subscriber(login)
        return login

    def _take(self, login: Login) -> list[Callable[[Login], None]]:
        """Keep what was read; return the subscribers, where it is another version than before."""
        with self._changed:
            before, self._login = self._login, login
            self._read_at, self._error = self._clock(), None
            self._end_read(self._refresh)
            if before is None or before.version == login.version:
                return []
            self._refusals.clear()
            return list(self._subscribers)

    def _failed(self, error: SourceError) -> None:
        with self._changed:
            self._error = error
            self._end_read(min(self._refresh, _AFTER_AN_ERROR))

    def _end_read(self, wait: float) -> None:
        self._is_reading = False
        self._reads += 1
        # Processes that started together do not read together for ever.
        self._refresh_at = self._clock() + wait * random.uniform(0.5, 1.0)  # noqa: S311 # spread
        self._changed.notify_all()

    # -- changes -------------------------------------------------------------------------------

    def on_change(self, subscriber: Callable[[Login], None]) -> Callable[[], None]:
        """Call `subscriber` with each new login, from whichever thread read it; return what ends that."""
        with self._changed:
            self._subscribers.append(subscriber)
            if self._watch is None:
                self._watch = threading.Thread(target=self._look, name="rotator-watch", daemon=True)
                self._watch.start()

        def unsubscribe() -> None:
            with self._changed:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)

        return unsubscribe

    def close(self) -> None:
        """End the background thread. The cached login can still be used."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(max(0.05, min(self._refresh_at - self._clock(), 1.0))):
            if self._clock() >= self._refresh_at:
                self._refresh_in_background()

    # -- connecting ----------------------------------------------------------------------------

    def connect(
        self, connect: Callable[[Login], _T], *, is_refusal: Callable[[BaseException], bool]
    ) -> _T:
        """Return what `connect` returns for the first login that the server accepts.

        `is_refusal` decides by the driver's error whether the server refused the login. Every other
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
                    if not is_refusal(error):
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
        is_refusal: Callable[[BaseException], bool],
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
                    if not is_refusal(error):
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
        try:
            if isinstance(request, _Read):
                return self.refresh()
            return self._source.next() if isinstance(self._source, ServesNext) else None
        except SourceError as error:
            _log.warning("no other login could be read: %s", error)
            return None

    def _attempts(self) -> Generator[_Request, Any, None]:
        """Yield what to do next, and be sent what came of it; ends by the last refusal."""
        login, refusal = self.current(), None
        deadline, pause = None, _FIRST_PAUSE
        while True:
            if self._may_try(login):
                refusal = yield login
                self._was_refused(login)
            deadline = self._clock() + self._patience if deadline is None else deadline
            for request in (_ReadNext(), _Read()):
                other = yield request
                if other is not None and self._may_try(other):
                    login = other
                    break
            else:
                left = deadline - self._clock()
                if left <= 0:
                    raise refusal or Refused(
                        f"the server refused version {login.version} of {self._source!r} a moment ago, and no other version is served. It is tried again later, so that the account is not locked."
                    )
                _ = yield float(min(pause, left))
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _may_try(self, login: Login) -> bool:
        with self._changed:
            refusal = self._refusals.get(login.version)
            return refusal is None or self._clock() >= refusal.until

    def _was_refused(self, login: Login) -> None:
        with self._changed:
            self._refused += 1
            before = self._refusals.get(login.version)
            count = 1 if before is None else before.count + 1
            rest = min(_FIRST_REST * 2 ** (count - 1), _LONGEST_REST)
            self._refusals[login.version] = _Refusal(count=count, until=self._clock() + rest)

    def _accepted(self, login: Login) -> None:
        with self._changed:
            _ = self._refusals.pop(login.version, None)
