"""The same harness over what people run: the PostgreSQL plugin, the embedded backend, SQLite."""

from __future__ import annotations

import itertools
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from rotator.api import Credential, Secret
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions
from rotator.backends.encryption import Keys, new_key
from rotator.backends.local import LocalBackend
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import VaultOptions
from rotator.backends.vault.session import VaultClient
from rotator.journal.sql import SqlJournal
from rotator.testing.crash import (
    Sandbox,
    Scenario,
    explore,
    explore_failures,
    explore_sample,
    explore_strangers,
    scenarios,
)
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import Account, FakeTarget
from tests.postgresql.sandboxes import STRATEGIES, effects, sandboxes
from tests.servers.openbao import ScratchOpenBao
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rotator.testing.crash import Report
    from rotator.testing.postgres import ScratchPostgres

_numbers = itertools.count(1)


@pytest.fixture
def make_sandbox(
    request: pytest.FixtureRequest, postgres: ScratchPostgres, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Sandbox]]:
    """Make sandboxes in which every statement of the plugin's admin is a point of its own."""
    statements = effects()
    monkeypatch.setattr(
        psycopg.Connection, "execute", statements.through(psycopg.Connection.execute)
    )
    with sandboxes(postgres, request.param, statements) as make:
        yield make


def _scenario(make: Callable[[], Sandbox], name: str) -> Scenario:
    return next(one for one in scenarios(make) if one.name == name)


def _expect_none(report: Report) -> None:
    assert not report.violations, str(report)
    assert report.runs > 30, str(report)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["rotation", "rollback before publish"])
@pytest.mark.parametrize("make_sandbox", STRATEGIES, indirect=True)
def test_the_postgresql_plugin_survives_a_crash_at_every_statement(
    make_sandbox: Callable[[], Sandbox], name: str
):
    """Killed before and after each statement it sends, it leaves no orphan and no outage."""
    report = explore(_scenario(make_sandbox, name))
    _expect_none(report)
    # Statements were points of their own, not only the calls at the plugin's door.
    assert report.inner >= 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("make_sandbox", ["new-user", "alternating-users"], indirect=True)
def test_the_postgresql_plugin_survives_a_crash_in_a_rollback(make_sandbox: Callable[[], Sandbox]):
    """Killed while it goes back to the old login, it gets there all the same."""
    _expect_none(explore(_scenario(make_sandbox, "rollback in the grace period")))


# -- storage -------------------------------------------------------------------------------------


@pytest.fixture
def stored_sandbox(tmp_path: Path) -> Callable[[], Sandbox]:
    """A sandbox with the embedded backend and a journal in SQLite, as `rotator init` sets them up."""
    key = new_key()

    def make() -> Sandbox:
        folder = tmp_path / str(next(_numbers))
        backend = LocalBackend("local", folder / "secrets.db", Keys([key]))
        target = FakeTarget(stored=lambda password: _holds(backend, password))
        return Sandbox(
            rotation=lambda: fake_rotation("new-user", target),
            backend=backend,
            usable=target.usable,
            accepts=lambda one: target.accepts(one.username, one.password.reveal()),
            state=target.state,
            violations=lambda: target.violations,
            tapped=(target,),
            make_journal=lambda clock, is_dead: SqlJournal(
                f"sqlite:///{folder / 'journal.db'}", clock=clock, actor="test", is_dead=is_dead
            ),
        )

    return make


def _holds(backend: Any, password: str, path: str = "apps/app") -> bool:
    found = [backend.staged(path, rotation) for rotation in backend.rotation_ids(path)]
    current = backend.current(path)
    found.append(current.credential if current else None)
    return any(one is not None and one.password.reveal() == password for one in found)


@pytest.mark.parametrize(
    "name",
    [
        "first credential",
        pytest.param("rotation", marks=pytest.mark.slow),
        pytest.param("rollback in the grace period", marks=pytest.mark.slow),
    ],
)
def test_the_embedded_backend_and_a_journal_in_sqlite_survive_crashes(
    stored_sandbox: Callable[[], Sandbox], name: str
):
    """What a newcomer runs keeps every promise, killed at any call."""
    _expect_none(explore(_scenario(stored_sandbox, name)))


@pytest.mark.slow
def test_the_embedded_backend_and_a_journal_in_sqlite_survive_failures(
    stored_sandbox: Callable[[], Sandbox],
):
    """And with any call failing."""
    _expect_none(explore_failures(_scenario(stored_sandbox, "rotation")))


class _Bao:
    """Secrets in a real OpenBao."""

    def __init__(self, bao: ScratchOpenBao) -> None:
        options = VaultOptions(address=bao.address)
        secrets = {"env:VAULT_TOKEN": Secret(bao.root_token)}
        self.backend = VaultBackend("vault", options, VaultClient(options, secrets.__getitem__))
        self._bao = bao

    def write(self, path: str, data: dict[str, Any]) -> str:
        answer = self._bao.call("POST", f"secret/data/{path}", data=data)
        return str(answer["data"]["version"])


class _Aws:
    """Secrets in the strict stand-in for AWS Secrets Manager."""

    def __init__(self, service: SecretsManager) -> None:
        options = AwsOptions(
            region="eu-central-1", endpoint=service.endpoint, writes_a_second=10_000
        )
        self.backend = AwsBackend("aws", options, Client(options))
        self._service = service

    def write(self, path: str, data: dict[str, Any]) -> str:
        return self._service.by_hand(path, json.dumps(data))


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest) -> Iterator[_Bao | _Aws]:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
        if request.param == "openbao":
            made: _Bao | _Aws = _Bao(stack.enter_context(ScratchOpenBao()))
        else:
            made = _Aws(stack.enter_context(SecretsManager()))
        yield made
        made.backend.close()


@pytest.fixture
def remote_sandbox(store: _Bao | _Aws) -> Callable[[], Sandbox]:
    """A sandbox that keeps its secrets on another machine, each at a path of its own."""

    def make() -> Sandbox:
        path = f"apps/{uuid4()}"
        target = FakeTarget(stored=lambda password: _holds(store.backend, password, path))

        def write_by_hand(one: Credential) -> str:
            data = {"username": one.username, "password": one.password.reveal(), **one.fields}
            return store.write(path, data)

        def foreign() -> Credential:
            target.accounts["legacy"] = Account(passwords=["set-by-hand-long-ago"])
            return Credential(username="legacy", password=Secret("set-by-hand-long-ago"))

        return Sandbox(
            rotation=lambda: fake_rotation("new-user", target),
            backend=store.backend,
            usable=target.usable,
            accepts=lambda one: target.accepts(one.username, one.password.reveal()),
            state=target.state,
            violations=lambda: target.violations,
            foreign=foreign,
            write_by_hand=write_by_hand,
            tapped=(target,),
            path=path,
        )

    return make


@pytest.mark.parametrize("store", ["aws", "openbao"], indirect=True)
@pytest.mark.parametrize("name", ["rotation", "rollback in the grace period"])
def test_a_remote_backend_survives_some_crashes_and_failures(
    remote_sandbox: Callable[[], Sandbox], name: str
):
    """Killed or refused at calls drawn by chance."""
    report = explore_sample(_scenario(remote_sandbox, name), 8)
    assert not report.violations, str(report)
    assert report.runs > 5, str(report)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("store", "name", "how"),
    [
        pytest.param(store, name, how, id=f"{store}-{name}-{how.__name__}")
        for store in ("aws", "openbao")
        for name, how in (
            ("rotation", explore),
            ("rotation", explore_failures),
            ("rollback in the grace period", explore),
            ("rollback in the grace period", explore_strangers),
            ("rotation of an adopted login", explore),
            ("rotation", explore_strangers),
        )
    ],
    indirect=["store"],
)
def test_a_remote_backend_survives_crashes_failures_and_other_writers(
    remote_sandbox: Callable[[], Sandbox], name: str, how: Callable[[Scenario], Report]
):
    """Killed at any call, refused at any call, and with somebody writing by hand at any point."""
    report = how(_scenario(remote_sandbox, name))
    assert not report.violations, str(report)
    assert report.runs > 10, str(report)
