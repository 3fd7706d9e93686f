"""A harness around the plugin, with one application's account on a real server."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rotations.mysql import PLUGIN
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from tests.harness import FIRST, QUICK, AnyHarness, parts
from tests.mysql.dialects import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rotator.core.model import Policy
    from rotator.engine import ManagedSecret
    from tests.mysql.dialects import Dialect
    from tests.servers.mysql_like import MySqlLikeServer

_numbers: Final = itertools.count(1)


@dataclass(slots=True, kw_only=True)
class Harness(AnyHarness):
    """One application's account on a server, and everything to rotate it with."""

    server: MySqlLikeServer
    dialect: Dialect

    def secret(
        self,
        strategy: str,
        *,
        policy: Policy = QUICK,
        admin: Credential | None = None,
        username: str | None = None,
        **target: Any,
    ) -> ManagedSecret:
        who = admin or Credential(username="root", password=Secret(self.server.root_password))
        name = username or self.name
        place = {"host": self.server.host, "port": self.server.port, **target}
        options = SecretOptions(
            username=name,
            users=(name, f"{name}_b"),
            prefix=name,
            login_dbname="shop",
            probes=("SELECT count(*) FROM orders WHERE id LIKE '%1%'",),
        )
        return self.managed(
            PLUGIN,
            strategy,
            TargetOptions(**place),
            options,
            admin=who,
            name=name,
            path=name,
            policy=policy,
        )

    def accounts(self) -> dict[str, bool]:
        """Return the application's accounts, and whether each is locked."""
        return self.dialect.accounts(self.server, self.name)

    def dump(self, login: str) -> set[str]:
        """Return what an account is and was granted, without its name and passwords."""
        found = {row[0] for row in self.server.run(f"SHOW GRANTS FOR `{login}`@'%'")}
        found |= {row[0] for row in self.server.run(f"SHOW CREATE USER `{login}`@'%'")}
        return {plain(one, login) for one in found}


def built(server: MySqlLikeServer, dialect: Dialect, tmp_path: Path) -> Iterator[Harness]:
    """Make one whose account has something of everything that is to be copied."""
    name = f"app{next(_numbers)}"
    server.run(
        "CREATE DATABASE IF NOT EXISTS shop",
        "CREATE DATABASE IF NOT EXISTS `odd``name %s`",
        "CREATE TABLE IF NOT EXISTS shop.orders (id int, secret int)",
        "CREATE ROLE IF NOT EXISTS reader",
        "GRANT SELECT ON shop.* TO reader",
        f"CREATE USER {name}@'%' IDENTIFIED BY '{FIRST}'",
        f"GRANT PROCESS ON *.* TO {name}@'%'",
        f"GRANT SELECT, INSERT ON shop.* TO {name}@'%' WITH GRANT OPTION",
        f"GRANT UPDATE ON `odd``name %s`.* TO {name}@'%'",
        f"GRANT SELECT (id), REFERENCES (id) ON shop.orders TO {name}@'%'",
        f"GRANT reader TO {name}@'%' WITH ADMIN OPTION",
        dialect.default_role("reader", f"{name}@'%'"),
        f"ALTER USER {name}@'%' WITH MAX_USER_CONNECTIONS 40 MAX_QUERIES_PER_HOUR 100000",
        f"ALTER USER {name}@'%' PASSWORD EXPIRE NEVER",
    )
    made = Harness(server=server, dialect=dialect, name=name, **parts(tmp_path / name))
    yield made
    made.end()
