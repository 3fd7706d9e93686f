"""The same function over a real MariaDB: its own password, two at a time, pairs, new logins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from rotator.journal.log import verify_log
from rotator.testing.mariadb import ScratchMariaDB, is_installed
from rotator.testing.secrets_manager import SecretsManager
from tests.aws_lambda.worlds import ADMIN_PASSWORD, APP_PASSWORD, Client, World
from tests.mysql.worlds import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS: dict[str, dict[str, Any]] = {
    "single-user": {},
    "dual-password": {"rotator": {"strategy": "dual-password"}},
    "alternating-users": {},
    "new-user": {"rotator": {"strategy": "new-user", "options": {"prefix": "app"}}},
}


class MariaWorld(World):
    """As `World`, over another server."""

    def accepts(self, login: dict[str, Any]) -> bool:
        try:
            self.server.connect(login["username"], login["password"], "shop").close()
        except pymysql.OperationalError as error:
            if error.args[0] not in REFUSALS:
                raise
            return False
        return True

    def logins(self) -> set[str]:
        found = self.server.run(
            "SELECT User FROM mysql.global_priv WHERE User LIKE 'app%'"
            " AND coalesce(json_value(Priv, '$.account_locked'), 0) = 0"
        )
        return {str(row[0]) for row in found}


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchMariaDB]:
    if not is_installed():
        pytest.skip("no MariaDB server: apt-get install mariadb-server-core")
    with ScratchMariaDB("--general-log=1", "--general-log-file=general.log") as started:
        yield started


@pytest.fixture
def maria(server: ScratchMariaDB, monkeypatch: pytest.MonkeyPatch) -> Iterator[MariaWorld]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    left = server.run("SELECT User, Host FROM mysql.user WHERE User LIKE 'app%'")
    server.run(
        *(f"DROP USER `{user}`@`{host}`" for user, host in left),
        "CREATE DATABASE IF NOT EXISTS shop",
        "CREATE TABLE IF NOT EXISTS shop.orders (id int)",
        f"CREATE OR REPLACE USER master@'%' IDENTIFIED BY '{ADMIN_PASSWORD}'",
        "GRANT ALL ON *.* TO master@'%' WITH GRANT OPTION",
        f"CREATE USER app@'%' IDENTIFIED BY '{APP_PASSWORD}'",
        "GRANT ALL ON shop.* TO app@'%' WITH GRANT OPTION",
    )
    with SecretsManager() as aws:
        yield MariaWorld(server=server, aws=aws, dbname="shop")  # type: ignore[arg-type] # another server


@pytest.mark.parametrize("strategy", _KINDS)
def test_twenty_rotations_by_each_strategy(maria: MariaWorld, strategy: str):
    """Each ends, nobody is locked out where it overlaps, nothing is left, no password is logged."""
    more = dict(_KINDS[strategy])
    if strategy != "single-user":
        more["masterarn"] = maria.master(engine="mariadb")
    maria.secret(engine="mariadb", dbname="shop", **more)
    passwords = [APP_PASSWORD]
    with Client(maria) as client:
        for _ in range(20):
            old = maria.served()
            assert maria.rotate() == []
            new = maria.served()
            maria.sweep()
            assert maria.accepts(new)
            assert not maria.accepts(old)
            assert maria.logins() == {new["username"]}
            passwords.append(new["password"])
    assert client.logins > 20
    if strategy != "single-user":
        assert client.refused == 0
    assert verify_log(maria.lines)[0].damage == []
    said = maria.said() + maria.server.log_text()
    assert not [one for one in passwords[1:] if one in said]
