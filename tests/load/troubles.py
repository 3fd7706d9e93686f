"""What other people do to a server while it is rotated on: backups, locks, pauses, lost standbys.

`Troublemaker` takes one after another at random, each for a random time, and lets go of it again.
"""

from __future__ import annotations

import collections
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from rotator.testing.postgres import ScratchPostgres
    from tests.servers.mysql_like import MySqlLikeServer
    from tests.servers.valkey import ScratchValkey

    Trouble = Callable[[], AbstractContextManager[None]]

_LONGEST_HOLD: Final = 2.5
_LONGEST_CALM: Final = 0.6


class Troublemaker:
    """A thread that makes one trouble after another, until it is left."""

    def __init__(self, troubles: Mapping[str, Trouble], chance: random.Random) -> None:
        """Nothing is held yet."""
        self._troubles: Mapping[str, Trouble] = troubles
        self._chance: random.Random = chance
        self._stop: threading.Event = threading.Event()
        self._thread: threading.Thread = threading.Thread(target=self._work, daemon=True)
        self.held: collections.Counter[str] = collections.Counter()
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        if self._troubles:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self._chance.uniform(0, _LONGEST_CALM)):
            name = self._chance.choice(sorted(self._troubles))
            try:
                with self._troubles[name]():
                    self.held[name] += 1
                    _ = self._stop.wait(self._chance.uniform(0.05, _LONGEST_HOLD))
            except Exception as error:  # noqa: BLE001 # the run must not pass because nothing was held
                self.failed.append(f"{name}: {type(error).__name__}: {error}")
                return


def postgres_troubles(server: ScratchPostgres) -> dict[str, Trouble]:
    """Return troubles that hold up whoever changes a role; logins and reads go on."""

    @contextmanager
    def transaction(statement: bytes) -> Generator[None]:
        with server.connect() as admin:
            admin.execute(b"BEGIN")
            admin.execute(statement)
            yield
            admin.execute(b"ROLLBACK")

    @contextmanager
    def standby_away() -> Generator[None]:
        _standbys(server, "gone")
        try:
            yield
        finally:
            _standbys(server, "")

    return {
        "catalog locked": lambda: transaction(b"LOCK TABLE pg_authid IN SHARE MODE"),
        "memberships locked": lambda: transaction(b"LOCK TABLE pg_auth_members IN SHARE MODE"),
        "roles locked": lambda: transaction(b"SELECT 1 FROM pg_authid FOR UPDATE"),
        "standby away": standby_away,
    }


def _standbys(server: ScratchPostgres, names: str) -> None:
    with server.connect() as admin:
        admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
        admin.execute(b"SELECT pg_reload_conf()")


def mariadb_troubles(server: MySqlLikeServer) -> dict[str, Trouble]:
    """Return the locks that backups take on both MariaDB and MySQL, and one on the accounts."""
    return {
        "tables flushed with read lock": lambda: _session(
            server, "FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"
        ),
        "accounts locked": lambda: _session(
            server, "LOCK TABLES mysql.db READ, mysql.tables_priv READ", "UNLOCK TABLES"
        ),
    }


def mysql_troubles(server: MySqlLikeServer) -> dict[str, Trouble]:
    """Return MariaDB's and MySQL's own backup lock."""
    return {
        **mariadb_troubles(server),
        "instance locked for backup": lambda: _session(
            server, "LOCK INSTANCE FOR BACKUP", "UNLOCK INSTANCE"
        ),
    }


@contextmanager
def _session(server: MySqlLikeServer, take: str, let_go: str) -> Generator[None]:
    with closing(server.connect()) as link, link.cursor() as cursor:
        cursor.execute(take)
        yield
        cursor.execute(let_go)


def valkey_troubles(server: ScratchValkey) -> dict[str, Trouble]:
    """Return a pause of all clients, as failovers take them, and one of those that write."""

    @contextmanager
    def pause(kind: str) -> Generator[None]:
        with closing(server.client()) as client:
            # It ends by itself: nobody, we included, is answered before.
            client.execute_command("CLIENT", "PAUSE", "700", kind)
            time.sleep(0.7)
            yield

    return {
        "clients are paused": lambda: pause("ALL"),
        "writers paused": lambda: pause("WRITE"),
    }
