"""The rights that `rotator init --target` prints are those that an admin needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotations.mysql import PLUGIN
from rotations.mysql.options import TargetOptions
from rotator.api import Credential, Secret, Severity
from rotator.testing.fakes import step_context
from tests.mysql.dialects import MARIADB

if TYPE_CHECKING:
    from tests.mysql.dialects import Dialect
    from tests.servers.mysql_like import MySqlLikeServer


def test_an_admin_with_the_printed_rights_can_rotate(server: MySqlLikeServer, dialect: Dialect):
    """As root runs them; doctor then finds nothing that is missing."""
    options = TargetOptions(host=server.host, port=server.port)
    engine = "mariadb" if dialect is MARIADB else "mysql"
    lines = PLUGIN.grants(options, engine=engine, admin="least", login="app")
    password = "of-the-least-admin-1"
    statements = [line.replace("…", password).replace("the_database", "shop") for line in lines]
    server.run("CREATE DATABASE IF NOT EXISTS shop")
    server.run(*(one for one in statements if not one.startswith("--")))
    admin = Credential(username="least", password=Secret(password))
    target = PLUGIN.target("main", options, lambda: admin)
    try:
        found = target.examine(step_context())
    finally:
        target.close()
        server.run("DROP USER 'least'@'%'")
    assert [one.message for one in found if one.severity is Severity.ERROR] == []
    assert "the admin has the required privileges" in [one.message for one in found]
