"""A function and its sandbox."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import botocore.loaders
import pytest

from rotator.testing.postgres import ScratchPostgres
from tests.aws_lambda.sandboxes import ROLES, Sandbox
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _models() -> Iterator[None]:
    """Read botocore's models once, not for each of a thousand cold starts."""
    with pytest.MonkeyPatch.context() as patch:
        read = functools.cache(botocore.loaders.JSONFileLoader.load_file)
        patch.setattr(
            botocore.loaders.JSONFileLoader, "load_file", lambda _self, path: read(_one, path)
        )
        yield


_one = botocore.loaders.JSONFileLoader()


@pytest.fixture(scope="session")
def postgres() -> Iterator[ScratchPostgres]:
    """One for the tests of a worker."""
    with ScratchPostgres() as server:
        yield server


@pytest.fixture
def sandbox(postgres: ScratchPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A server as nobody has used it, and a service of the test's own; the journal is the log."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    empty(postgres)
    with SecretsManager() as aws:
        with postgres.connect() as admin:
            admin.execute(ROLES.encode())
        yield Sandbox(server=postgres, aws=aws, dbname="postgres")
    with postgres.connect() as admin:
        admin.execute(b"DROP DATABASE IF EXISTS journal WITH (FORCE)")


def empty(server: ScratchPostgres) -> None:
    """Take away what the test before has made."""
    with server.connect() as admin:
        admin.execute(b"ALTER SYSTEM RESET ALL")
        admin.execute(b"SELECT pg_reload_conf()")
        admin.execute(
            b"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            b" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        admin.execute(b"DROP SCHEMA public CASCADE")
        admin.execute(b"CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC")
        found = admin.execute(
            b"SELECT quote_ident(rolname) FROM pg_roles"
            b" WHERE rolname !~ '^pg_' AND rolname <> 'postgres'"
        ).fetchall()
        roles = ", ".join(row[0] for row in found)
        if roles:
            admin.execute(f"DROP OWNED BY {roles} CASCADE".encode())
            admin.execute(f"DROP ROLE {roles}".encode())


@pytest.fixture(params=["log", "postgresql"])
def either(request: pytest.FixtureRequest, sandbox: Sandbox) -> Sandbox:
    """With each kind of journal."""
    if request.param == "postgresql":
        sandbox.keep_journal_in(sandbox.server)
    return sandbox
