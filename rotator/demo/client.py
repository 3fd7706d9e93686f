"""An application: it opens connections all the time with whatever the backend serves."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg

from rotator.demo.report import ClientReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.model import Credential
    from rotator.testing.postgres import ScratchPostgres

_PAUSE: Final = 0.005
# How long the application keeps its old connection after it has seen a new credential.
_LETS_GO_AFTER: Final = 0.4


class Line(Protocol):
    """One connection that an application holds."""

    def use(self) -> None:
        """Do the application's work."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class PostgresLine:
    """A connection to PostgreSQL."""

    def __init__(
        self, server: ScratchPostgres, query: str, of: str, credential: Credential
    ) -> None:
        """Connect to the database `shop`; raises psycopg's error where that is refused."""
        self._query: bytes = query.encode()
        self._raw: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(
            host=server.host,
            port=server.port,
            dbname="shop",
            user=credential.username,
            password=credential.password.reveal(),
            application_name=f"shop ({of})",
            connect_timeout=5,
            autocommit=True,
        )

    def use(self) -> None:
        """Run the query."""
        _ = self._raw.execute(self._query)

    def close(self) -> None:
        """Hang up."""
        self._raw.close()


class Client:
    """One application with a thread of its own, and one connection that it keeps open."""

    def __init__(
        self,
        strategy: str,
        connect: Callable[[Credential], Line],
        read: Callable[[], Credential],
        failure: type[Exception] = psycopg.Error,
    ) -> None:
        """`read` asks the backend for the credential; `failure` is what the target's driver raises."""
        self.report: ClientReport = ClientReport(strategy=strategy)
        self._connect: Callable[[Credential], Line] = connect
        self._read: Callable[[], Credential] = read
        self._failure: type[Exception] = failure
        self._stop: threading.Event = threading.Event()
        self._thread: threading.Thread = threading.Thread(target=self._work, daemon=True)
        self._held: Line | None = None
        self._held_as: str = ""
        self._let_go_at: float | None = None

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _work(self) -> None:
        refused_since: float | None = None
        try:
            while not self._stop.is_set():
                credential = self._read()
                try:
                    with closing(self._connect(credential)) as line:
                        line.use()
                except self._failure as error:
                    self.report.failures += 1
                    self.report.last_failure = str(error).strip().splitlines()[-1]
                    refused_since = refused_since or time.monotonic()
                else:
                    self.report.logins += 1
                    if refused_since is not None:
                        gap = time.monotonic() - refused_since
                        self.report.longest_gap = max(self.report.longest_gap, gap)
                        refused_since = None
                    self._keep(credential)
                _ = self._stop.wait(_PAUSE)
        finally:
            if self._held is not None:
                self._held.close()

    def _keep(self, credential: Credential) -> None:
        """Go on working on the connection that is kept open; move it some time after a rotation."""
        if self._held is None:
            self._held, self._held_as = self._connect(credential), credential.username
            return
        try:
            self._held.use()
        except self._failure:
            self.report.held_ended += 1
            self._held = None
            return
        if credential.username == self._held_as:
            self._let_go_at = None
        elif self._let_go_at is None:
            self._let_go_at = time.monotonic() + _LETS_GO_AFTER
        elif time.monotonic() > self._let_go_at:
            self._held.close()
            self.report.held_moved += 1
            self._held, self._let_go_at = None, None
