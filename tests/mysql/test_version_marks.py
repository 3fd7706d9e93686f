"""Sessions show the names of their programs, and so the version marks of applications, where the server keeps them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pymysql
import pytest

from rotations.mysql import PLUGIN
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.client import Login
from rotator.client.pymysql import with_login
from rotator.core.consumers import Consumer, Gate, assess
from rotator.testing.fakes import step_context
from tests.mysql.dialects import MARIADB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.api import Finding, Session
    from tests.mysql.dialects import Dialect
    from tests.servers.mysql_like import MySqlLikeServer

_WEAK: Final = "weak-but-long-1"
_TABLE: Final = "performance_schema.session_connect_attrs"


@pytest.fixture(scope="module")
def mariadb_with_names() -> Iterator[MySqlLikeServer]:
    if MARIADB.missing:
        pytest.skip(MARIADB.missing)
    with MARIADB.start("--performance-schema=ON") as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest, dialect: Dialect) -> Iterator[MySqlLikeServer]:
    """A server that keeps what programs say of themselves, with a login and an admin."""
    name = "mariadb_with_names" if dialect is MARIADB else "real_mysql"
    made: MySqlLikeServer = request.getfixturevalue(name)
    made.run(
        f"CREATE USER marked@'%' IDENTIFIED BY '{_WEAK}'",
        f"CREATE USER looker@'%' IDENTIFIED BY '{_WEAK}'",
        "GRANT PROCESS ON *.* TO looker@'%'",
    )
    yield made
    made.run("DROP USER marked@'%', looker@'%'")


class _Twice(dict[str, str]):
    """Attributes of which the server receives the program's name once more."""

    def items(self) -> Any:
        return [*super().items(), ("program_name", "another")]


def _connected(server: MySqlLikeServer, options: dict[str, Any]) -> Any:
    return pymysql.connect(host=server.host, port=server.port, **options)


def _sessions(server: MySqlLikeServer) -> tuple[list[Session], list[Finding]]:
    """Return the sessions of the login as the admin `looker` sees them, and what doctor finds."""
    admin = Credential(username="looker", password=Secret(_WEAK))
    target = PLUGIN.target("main", TargetOptions(host=server.host, port=server.port), lambda: admin)
    with closing(target):
        rotation = target.rotation("single-user", SecretOptions(username="marked"))
        found = rotation.sessions("marked", step_context())  # type: ignore[attr-defined]
        return found, rotation.examine(None, step_context())  # type: ignore[attr-defined]


def test_a_session_of_the_client_counts_for_its_consumer(server: MySqlLikeServer):
    """Without a report, and only for the version that it logged in with."""
    server.run(f"GRANT SELECT ON {_TABLE} TO looker@'%'")
    login = Login(username="marked", password=Secret(_WEAK), version="7")
    with closing(_connected(server, with_login(login, {"program_name": "web"}))):
        found, examined = _sessions(server)
    (session,) = found
    assert session.client == "127.0.0.1"
    web = Consumer(name="web", instances=1, gate=Gate.HOLD)
    on_7, on_8 = (assess([web], [], found, version=one).standings[0] for one in ("7", "8"))
    assert (on_7.acknowledged, on_7.behind) == (1, ())
    assert (on_8.acknowledged, on_8.behind) == (0, ("session from 127.0.0.1",))
    assert "show the version marks" in str(examined)


def test_an_admin_without_the_right_sees_databases_and_doctor_names_the_right(
    server: MySqlLikeServer,
):
    server.run("CREATE DATABASE IF NOT EXISTS shop", "GRANT SELECT ON shop.* TO marked@'%'")
    with closing(server.connect("marked", _WEAK, "shop")):
        found, examined = _sessions(server)
    assert [one.application for one in found] == ["database shop"]
    assert f"lacks SELECT on {_TABLE}" in str(examined)


def test_a_program_that_names_itself_twice_is_one_session(server: MySqlLikeServer):
    server.run(f"GRANT SELECT ON {_TABLE} TO looker@'%'")
    login = Login(username="marked", password=Secret(_WEAK), version="7")
    link = _connected(server, with_login(login, {"program_name": "web", "defer_connect": True}))
    link._connect_attrs = _Twice(link._connect_attrs)
    link.connect()
    with closing(link):
        found, _ = _sessions(server)
    assert len(found) == 1


def test_doctor_says_that_a_server_keeps_no_names(mariadb: MySqlLikeServer):
    """As MariaDB does by default."""
    mariadb.run(
        f"CREATE USER looker@'%' IDENTIFIED BY '{_WEAK}'", "GRANT PROCESS ON *.* TO looker@'%'"
    )
    try:
        _, examined = _sessions(mariadb)
    finally:
        mariadb.run("DROP USER looker@'%'")
    assert "no version marks (performance_schema is off)" in str(examined)
