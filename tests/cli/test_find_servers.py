"""find --try on real servers: what logs in is valid, and nothing else is."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from rotator.bootstrap import initialise
from rotator.testing.postgres import ScratchPostgres
from rotator.testing.scratch import free_port
from tests.mysql.dialects import MARIADB
from tests.servers.valkey import ScratchValkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Cli
    from tests.servers.mysql_like import MySqlLikeServer

_CONFIG = """
    version: 1
    journal: {{url: "sqlite:///rotator.db"}}
    backends:
      local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
    targets:
      main: {{plugin: {plugin}, host: {host}, port: {port}{options}, admin: {{username: {admin}, password: "env:ADMIN_PASSWORD"}}}}
    secrets: {{}}
"""
_PASSWORD = "Kanarie7-vogel"


@pytest.fixture(scope="module")
def postgres() -> Iterator[ScratchPostgres]:
    """A server with TLS that trusts one login, and rejects another by its rules."""
    hba = [
        "local all all scram-sha-256",
        "host all trusted 127.0.0.1/32 trust",
        "host all barred 127.0.0.1/32 reject",
        "host all all 127.0.0.1/32 scram-sha-256",
    ]
    with ScratchPostgres(tls=True, hba=hba) as server:
        with server.connect() as admin:
            for login in ("shop", "trusted", "barred", "locked"):
                admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{_PASSWORD}'".encode())
            admin.execute("ALTER ROLE locked NOLOGIN")
            admin.execute("CREATE DATABASE shop")
            admin.execute("CREATE DATABASE closed")
            admin.execute("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MySqlLikeServer]:
    if MARIADB.missing:
        pytest.skip(MARIADB.missing)
    with MARIADB.start() as server:
        for login, rest in (("shop", ""), ("locked", " ACCOUNT LOCK")):
            server.run(f"CREATE USER '{login}'@'%' IDENTIFIED BY '{_PASSWORD}'{rest}")
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[ScratchValkey]:
    with ScratchValkey() as server:
        server.run("ACL", "SETUSER", "shop", "on", f">{_PASSWORD}", "+ping")
        server.run("ACL", "SETUSER", "trusted", "on", "nopass", "+ping")
        server.run("ACL", "SETUSER", "locked", "off", f">{_PASSWORD}", "+ping")
        yield server


def _verdict(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, place: dict[str, object], url: str, *arguments: str
) -> tuple[str, str, int]:
    """Write one URL into a file, and return the verdict on it, its reason and the exit code."""
    monkeypatch.setenv("ADMIN_PASSWORD", str(place.pop("password")))
    text = _CONFIG.format(**{"options": "", "admin": "postgres", **place})
    if not cli.config.exists():
        initialise(cli.config, textwrap.dedent(text))
    (cli.folder / "tree").mkdir(exist_ok=True)
    (cli.folder / "tree" / "app.py").write_text(f"url = '{url}'\n")
    outcome = cli.json("find", "tree", "--try", *arguments, code=None)
    (one,) = outcome.data["candidates"]
    assert _PASSWORD not in outcome.out + outcome.err
    for file in cli.folder.glob("rotator.db*"):
        assert _PASSWORD.encode() not in file.read_bytes()
    return one["verdict"], one["reason"], outcome.code


@pytest.mark.parametrize(
    ("account", "verdict", "refused"),
    [
        ("shop:{}@127.0.0.1:{}/shop", "valid", 1),
        ("shop:wrong-1@127.0.0.1:{1}/shop", "refused", 1),
        ("shop:{}@127.0.0.1:{}/missing", "valid-elsewhere", 1),
        ("shop:{}@127.0.0.1:{}/closed", "valid-elsewhere", 1),
        ("nobody:{}@localhost:{}/shop", "refused", 1),
        ("trusted:{}@127.0.0.1:{}/shop", "not-tried", 0),
        ("barred:{}@127.0.0.1:{}/shop", "not-tried", 0),
        ("locked:{}@127.0.0.1:{}/shop", "refused", 0),
    ],
    ids=["valid", "changed", "no database", "closed database", "no login", "trust", "rules", "nologin"],
)  # fmt: skip
def test_postgresql(
    bare: Cli,
    monkeypatch: pytest.MonkeyPatch,
    postgres: ScratchPostgres,
    account: str,
    verdict: str,
    refused: int,
):
    """At most one login of the account is refused, by the server's own log."""
    place: dict[str, object] = {
        "plugin": "postgresql", "host": "127.0.0.1", "port": postgres.port, "password": postgres.superuser_password,
    }  # fmt: skip
    login = account.partition(":")[0]
    before = postgres.log_text().count(f'password authentication failed for user "{login}"')
    found, reason, code = _verdict(
        bare, monkeypatch, place, "postgresql://" + account.format(_PASSWORD, postgres.port)
    )
    assert found == verdict, reason
    assert code == {"valid": 1, "valid-elsewhere": 1, "refused": 0}.get(verdict, 3)
    after = postgres.log_text().count(f'password authentication failed for user "{login}"')
    assert after - before == refused


def test_postgresql_that_trusts_everybody(bare: Cli, monkeypatch: pytest.MonkeyPatch):
    """The first login is one that does not exist: no real one is tried."""
    with ScratchPostgres(hba=["local all all trust", "host all all 127.0.0.1/32 trust"]) as server:
        place: dict[str, object] = {
            "plugin": "postgresql", "host": "127.0.0.1", "port": server.port, "password": server.superuser_password,
        }  # fmt: skip
        with server.connect() as admin:
            admin.execute("CREATE ROLE shop LOGIN")
        verdict, reason, _ = _verdict(
            bare,
            monkeypatch,
            place,
            f"postgresql://shop:{_PASSWORD}@127.0.0.1:{server.port}/postgres",
        )
        # For a login that does not exist `trust` is a rejection: the wrong password of the real one is not.
        assert verdict == "not-tried"
        assert "any password" in reason


def test_an_allowed_host(bare: Cli, monkeypatch: pytest.MonkeyPatch, postgres: ScratchPostgres):
    """It is no configured target; without the option it is not tried."""
    place: dict[str, object] = {
        "plugin": "postgresql", "host": "127.0.0.1", "port": free_port(), "password": "x",
    }  # fmt: skip
    url = f"postgresql://shop:{_PASSWORD}@localhost:{postgres.port}/shop"
    assert _verdict(bare, monkeypatch, {**place}, url)[0] == "not-tried"
    allowed = ("--allow-host", f"127.0.0.1:{postgres.port}")
    assert _verdict(bare, monkeypatch, {**place}, url, *allowed)[0] == "valid"
    dead = f"postgresql://shop:{_PASSWORD}@127.0.0.1:{place['port']}/shop"
    assert _verdict(bare, monkeypatch, {**place}, dead)[0] == "unreachable"


def _at(mariadb: MySqlLikeServer) -> dict[str, object]:
    """Return how a configuration names the server."""
    return {
        "plugin": "mysql", "host": "127.0.0.1", "port": mariadb.port, "password": mariadb.root_password,
        "admin": "root",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("account", "verdict"),
    [
        ("shop:{}", "valid"),
        ("shop:wrong-1", "refused"),
        ("nobody:{}", "refused"),
        ("locked:{}", "refused"),
    ],
)
def test_mariadb(
    bare: Cli, monkeypatch: pytest.MonkeyPatch, mariadb: MySqlLikeServer, account: str, verdict: str
):
    """As PostgreSQL; it counts no refused logins by default."""
    url = f"mysql://{account.format(_PASSWORD)}@127.0.0.1:{mariadb.port}/shop"
    found, reason, _ = _verdict(bare, monkeypatch, _at(mariadb), url)
    assert found == verdict, reason


def test_mariadb_that_counts_refused_logins(
    bare: Cli, monkeypatch: pytest.MonkeyPatch, mariadb: MySqlLikeServer
):
    """No login is sent: one more refusal may block the account."""
    mariadb.run("SET GLOBAL max_password_errors = 3")
    try:
        url = f"mysql://shop:{_PASSWORD}@127.0.0.1:{mariadb.port}/shop"
        assert _verdict(bare, monkeypatch, _at(mariadb), url)[0] == "would-lock"
    finally:
        mariadb.run("SET GLOBAL max_password_errors = DEFAULT")


@pytest.mark.parametrize(
    ("account", "verdict"),
    [
        ("shop:{}", "valid"),
        ("shop:wrong-1", "refused"),
        ("nobody:{}", "refused"),
        ("locked:{}", "refused"),
        ("trusted:{}", "not-tried"),
        (":wrong-1", "refused"),
    ],
)
def test_valkey(
    bare: Cli, monkeypatch: pytest.MonkeyPatch, valkey: ScratchValkey, account: str, verdict: str
):
    """A user without a password accepts any."""
    place: dict[str, object] = {
        "plugin": "valkey", "host": "127.0.0.1", "port": valkey.port, "password": valkey.password,
        "admin": "default",
    }  # fmt: skip
    url = f"redis://{account.format(_PASSWORD)}@127.0.0.1:{valkey.port}/0"
    found, reason, _ = _verdict(bare, monkeypatch, place, url)
    assert found == verdict, reason
