"""The admin of a MariaDB or MySQL target is itself a managed secret."""

from __future__ import annotations

import itertools
import secrets
from typing import TYPE_CHECKING

import pymysql
import pytest

from rotations.mysql.server import Connection
from rotator.api import Credential, Secret
from tests.mysql.dialects import DIALECTS
from tests.own_admin.conftest import OwnAdmin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.mysql_like import MySqlLikeServer

_numbers = itertools.count(1)
_IN_PLACE = "options: {{username: {0}}}"
_OPTIONS = {
    "single-user": _IN_PLACE,
    "dual-password": _IN_PLACE,
    "alternating-users": "options: {{users: [{0}, {0}_b]}}",
}


@pytest.fixture(scope="module", params=DIALECTS, ids=lambda one: one.product)
def server(request: pytest.FixtureRequest) -> Iterator[MySqlLikeServer]:
    if request.param.missing:
        pytest.skip(request.param.missing)
    with request.param.server() as started:
        started.run(
            "CREATE DATABASE shop",
            "CREATE USER shop_reader@'%' IDENTIFIED BY 'nobody-uses-it-1'",
            "GRANT SELECT ON shop.* TO shop_reader@'%'",
        )
        yield started


@pytest.fixture
def own(server: MySqlLikeServer, tmp_path: Path) -> Iterator[OwnAdmin]:
    number = next(_numbers)
    first = Credential(username=f"admin_{number}", password=Secret(secrets.token_urlsafe(18)))
    account = f"{first.username}@'%'"
    server.run(
        f"CREATE USER {account} IDENTIFIED BY '{first.password.reveal()}'",
        f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION",
    )

    def logs_in(credential: Credential) -> bool:
        try:
            server.connect(credential.username, credential.password.reveal()).close()
        except pymysql.OperationalError:
            return False
        return True

    def named(pattern: str) -> list[str]:
        return [
            name
            for (name,) in server.run(f"SELECT User FROM mysql.user WHERE User RLIKE '{pattern}'")
        ]

    yield OwnAdmin(
        folder=tmp_path,
        first=first,
        statements=(Connection, "ask"),
        logs_in=logs_in,
        scratch_logins=lambda: named("^rotator_proof"),
    )
    for name in named(f"^(admin_{number}|admin_{number}_b|app_{number}_.*|rotator_proof.*)$"):
        server.run(f"DROP USER {name}@'%'")


def _configure(own: OwnAdmin, server: MySqlLikeServer, strategy: str) -> None:
    name = own.first.username
    own.configure(
        f"  main: {{plugin: mysql, host: 127.0.0.1, port: {server.port},"
        " admin: secret:main-admin}\n",
        f"  main-admin: {{target: main, backend: local, strategy: {strategy},"
        f" {_OPTIONS[strategy].format(name)}}}\n"
        "  shop: {target: main, backend: local, strategy: new-user,"
        f" options: {{prefix: {name.replace('admin', 'app')}, like: shop_reader}}}}\n",
    )


@pytest.mark.parametrize("strategy", _OPTIONS)
def test_the_admin_rotates_itself_and_other_secrets_follow(
    own: OwnAdmin, server: MySqlLikeServer, strategy: str
):
    """Its idle sessions, of this process and of others, do not keep the old one from its revoke."""
    _configure(own, server, strategy)
    own.expect_others_to_follow()


@pytest.mark.parametrize("strategy", ["single-user", "alternating-users"])
def test_a_killed_rotation_of_the_admin_goes_on_by_itself(
    own: OwnAdmin, server: MySqlLikeServer, strategy: str
):
    """At every instant the backend holds a password that the admin logs in with."""
    _configure(own, server, strategy)
    points = own.count()
    own.expect_survival(range(points // 4, points, points // 4))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("strategy", _OPTIONS)
def test_a_rotation_of_the_admin_may_be_killed_at_any_point(
    own: OwnAdmin, server: MySqlLikeServer, strategy: str
):
    """The same at each of them."""
    _configure(own, server, strategy)
    own.expect_survival(range(1, own.count() + 1))
