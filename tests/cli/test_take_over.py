"""Twenty logins of a real server that nobody manages: discover writes the list, adopt takes them over."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from rotator.bootstrap import initialise
from rotator.testing.postgres import ScratchPostgres
from tests.mysql.dialects import MARIADB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Cli

_CONFIG = """
    version: 1
    journal: {{url: "sqlite:///rotator.db"}}
    backends:
      local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
    targets:
      main: {{plugin: {plugin}, host: 127.0.0.1, port: {port}, admin: {{username: {admin}, password: "env:ADMIN_PASSWORD"}}}}
    policies:
      default: {{every: 30d, retry: {{attempts: 1, cycles: 1, backoff: 1ms, backoff_cap: 1ms}}}}
    secrets: {{}}
"""
_LOGINS = [f"service_{number:02}" for number in range(20)]


def _password(login: str) -> str:
    return f"first-of-{login}"


def _postgresql() -> Iterator[tuple[dict[str, object], Callable[[str, str], None]]]:
    with ScratchPostgres() as server, server.connect() as admin:
        for login in _LOGINS:
            admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{_password(login)}'".encode())

        def change(login: str, password: str) -> None:
            admin.execute(f"ALTER ROLE {login} PASSWORD '{password}'".encode())

        place = {"plugin": "postgresql", "port": server.port, "admin": "postgres"}
        yield {**place, "password": server.superuser_password}, change


def _mariadb() -> Iterator[tuple[dict[str, object], Callable[[str, str], None]]]:
    if MARIADB.missing:
        pytest.skip(MARIADB.missing)
    with MARIADB.start() as server:
        for login in _LOGINS:
            server.run(f"CREATE USER '{login}'@'%' IDENTIFIED BY '{_password(login)}'")

        def change(login: str, password: str) -> None:
            server.run(f"ALTER USER '{login}'@'%' IDENTIFIED BY '{password}'")

        place = {"plugin": "mysql", "port": server.port, "admin": "root"}
        yield {**place, "password": server.root_password}, change


@pytest.fixture(params=[_postgresql, _mariadb], ids=["postgresql", "mariadb"])
def server(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[dict[str, object], Callable[[str, str], None]]]:
    """How a configuration names a server with the logins, and what sets a password there."""
    yield from request.param()


def test_what_is_known_is_adopted_and_the_rest_is_named(
    bare: Cli,
    monkeypatch: pytest.MonkeyPatch,
    server: tuple[dict[str, object], Callable[[str, str], None]],
):
    """A wrong, a missing and an unknown password stop no other; a second run adopts what is mended."""
    place, change = server
    monkeypatch.setenv("ADMIN_PASSWORD", str(place.pop("password")))
    initialise(bare.config, textwrap.dedent(_CONFIG.format(**place)))
    folder = bare.folder / "passwords"
    folder.mkdir(mode=0o700)
    for login in _LOGINS[1:]:
        _store(bare, login, _password(login))
    _store(bare, _LOGINS[1], "wrong")

    written = bare.json("discover", "main", "--write", "--csv", "logins.csv", "--password-from", "file:passwords/{login}")  # fmt: skip
    assert sorted(written.data["entry"]["secrets"]) == _LOGINS
    file = bare.folder / "logins.csv"
    # The password of the third one is known to nobody.
    file.write_text(file.read_text().replace(f"file:passwords/{_LOGINS[2]}", ""))
    first = bare.json("adopt", "--from", "logins.csv", code=2)
    assert [one["secret"] for one in first.data["secrets"]] == _LOGINS[3:]
    errors = {one["secret"]: one for one in first.errors}
    assert sorted(errors) == _LOGINS[:3]
    assert "passwords/service_00" in errors["service_00"]["what"]
    assert "rejects login 'service_01'" in errors["service_01"]["what"]
    assert "no password for login service_02" in errors["service_02"]["what"]
    assert "set a new one on the target" in errors["service_02"]["hint"]

    _store(bare, _LOGINS[0], _password(_LOGINS[0]))
    _store(bare, _LOGINS[1], _password(_LOGINS[1]))
    change(_LOGINS[2], "new-of-service")
    _store(bare, _LOGINS[2], "new-of-service")
    file.write_text(file.read_text().replace("service_02,service_02,", f"service_02,service_02,file:passwords/{_LOGINS[2]}"))  # fmt: skip
    again = bare.json("adopt", "--all", "--from", "logins.csv")
    adopted = [one["secret"] for one in again.data["secrets"] if one["adopted"]]
    assert adopted == _LOGINS[:3]
    states = {one["login"]: one["state"] for one in bare.json("discover", "main").data["logins"]}
    assert {states[login] for login in _LOGINS} == {"managed"}
    for outcome in (written, first, again):
        assert "first-of" not in outcome.out + outcome.err


def _store(cli: Cli, login: str, password: str) -> None:
    file = cli.folder / "passwords" / login
    file.write_text(password)
    file.chmod(0o600)
