"""A house around the plugin: the real engine, journal and backend over a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator import world
from rotator.api import Credential, Secret
from rotator.backends.local import LocalBackend
from rotator.backends.sealing import Keys, new_key
from rotator.core.model import Policy
from rotator.engine import Engine, ManagedSecret
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ListLog
from rotator.testing.postgres import ScratchPostgres

_numbers = itertools.count(1)
QUICK = Policy(
    grace=timedelta(0),
    attempts=1,
    backoff=timedelta(milliseconds=1),
    step_timeout=timedelta(seconds=10),
)


@dataclass(slots=True, kw_only=True)
class House:
    """One database with a group role and a table of its own, and everything to rotate with."""

    server: ScratchPostgres
    dbname: str
    group: str
    engine: Engine
    journal: SqlJournal
    backend: LocalBackend
    log: ListLog
    close: list[Callable[[], None]]

    def secret(
        self,
        strategy: str = "new-user",
        *,
        name: str | None = None,
        policy: Policy = QUICK,
        admin: Credential | None = None,
        target: dict[str, Any] | None = None,
        **options: Any,
    ) -> ManagedSecret:
        """Return a secret of this house; `options` are the plugin's."""
        name = name or strategy
        given = {"host": self.server.host, "port": self.server.port, "dbname": self.dbname}
        who = admin or Credential(
            username="postgres", password=Secret(self.server.superuser_password)
        )
        opened = PLUGIN.target(name, TargetOptions(**(given | (target or {}))), lambda: who)
        self.close.append(opened.close)
        return ManagedSecret(
            name=name,
            path=f"apps/{name}",
            backend_name="local",
            backend=self.backend,
            target_name=name,
            rotation=opened.rotation(strategy, SecretOptions(**options)),
            plugin="postgresql",
            strategy=strategy,
            policy=policy,
        )

    def serves(self, secret: ManagedSecret) -> Credential:
        current = self.backend.current(secret.path)
        assert current is not None
        return current.credential

    def logs_in(self, credential: Credential) -> bool:
        import psycopg

        try:
            self.connect(credential).close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, credential: Credential):
        return self.server.connect(self.dbname, credential.username, credential.password.reveal())

    def sql(self, statement: str, *values: object, dbname: str | None = None) -> list[tuple]:
        with self.server.connect(dbname or self.dbname) as admin:
            done = admin.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def roles(self) -> set[str]:
        return {row[0] for row in self.sql("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'")}


@pytest.fixture
def house(postgres: ScratchPostgres, tmp_path: Path) -> Iterator[House]:
    number = next(_numbers)
    dbname, group = f"shop_{number}", f"owner_{number}"
    with postgres.connect() as admin:
        admin.execute(f"CREATE ROLE {group} NOLOGIN")
        admin.execute(f"CREATE DATABASE {dbname}")
    with postgres.connect(dbname) as admin:
        admin.execute("CREATE TABLE orders (id int)")
        admin.execute(f"ALTER TABLE orders OWNER TO {group}")
        admin.execute(f"GRANT CREATE ON SCHEMA public TO {group}")
    clock, entropy, log = world.SystemClock(), world.SystemEntropy(), ListLog()
    journal = SqlJournal(f"sqlite:///{tmp_path}/j.db", clock=clock, actor="test")
    backend = LocalBackend("local", tmp_path / "s.db", Keys([new_key()]))
    engine = Engine(journal=journal, clock=clock, entropy=entropy, log=log, holder=world.holder)
    made = House(
        server=postgres,
        dbname=dbname,
        group=group,
        engine=engine,
        journal=journal,
        backend=backend,
        log=log,
        close=[journal.close, backend.close],
    )
    yield made
    for close in made.close:
        close()
