"""A harness around the plugin: the real engine, journal and backend over a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.core.model import Policy
from rotator.engine import ManagedSecret
from rotator.testing.postgres import ScratchPostgres
from tests.harness import QUICK, AnyHarness, parts

_numbers = itertools.count(1)


@dataclass(slots=True, kw_only=True)
class Harness(AnyHarness):
    """One database with a group role and a table of its own, and everything to rotate with."""

    server: ScratchPostgres
    dbname: str
    group: str

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
        """Return a secret of this harness; `options` are the plugin's."""
        name = name or strategy
        given = {"host": self.server.host, "port": self.server.port, "dbname": self.dbname}
        who = admin or Credential(
            username="postgres", password=Secret(self.server.superuser_password)
        )
        return self.managed(
            PLUGIN,
            strategy,
            TargetOptions(**(given | (target or {}))),
            SecretOptions(**options),
            admin=who,
            name=name,
            path=f"apps/{name}",
            policy=policy,
        )

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
def harness(postgres: ScratchPostgres, tmp_path: Path) -> Iterator[Harness]:
    number = next(_numbers)
    dbname, group = f"shop_{number}", f"owner_{number}"
    with postgres.connect() as admin:
        admin.execute(f"CREATE ROLE {group} NOLOGIN")
        admin.execute(f"CREATE DATABASE {dbname}")
    with postgres.connect(dbname) as admin:
        admin.execute("CREATE TABLE orders (id int)")
        admin.execute(f"ALTER TABLE orders OWNER TO {group}")
        admin.execute(f"GRANT CREATE ON SCHEMA public TO {group}")
    made = Harness(
        server=postgres, dbname=dbname, group=group, name=group, **parts(tmp_path / group)
    )
    yield made
    made.end()
    # Rotations of the tests that follow look into every database of the server.
    with postgres.connect() as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {dbname} WITH (FORCE)")
