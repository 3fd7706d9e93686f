"""The statements that give an admin of MariaDB or MySQL the least rights that rotations need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotations.mysql.mariadb import MariaDbAccounts
from rotations.mysql.mysql8 import MySqlAccounts

if TYPE_CHECKING:
    from rotations.mysql.options import TargetOptions


def statements(
    options: TargetOptions, *, engine: str, admin: str, login: str | None
) -> tuple[str, ...]:
    """Return them, to be run by root. The account is for any host: narrow `%` to rotator's own."""
    product = MariaDbAccounts if engine == "mariadb" else MySqlAccounts
    tls = "" if options.tls == "disable" else " REQUIRE SSL"
    account = f"{_quoted(admin)}@'%'"
    sees = ", ".join(one.partition(" or ")[0] for one in product.sees)
    return (
        f"CREATE USER {account} IDENTIFIED BY '…'{tls};",
        f"GRANT {', '.join(product.needs)} ON *.* TO {account};",
        f"GRANT SELECT ON mysql.* TO {account};",
        "-- consumers: which version of a secret a session uses, where performance_schema is on",
        f"GRANT SELECT ON performance_schema.session_connect_attrs TO {account};",
        "-- new-user, to drop logins: see which objects a login defines, in every database",
        f"GRANT {sees} ON *.* TO {account};",
        (
            f"-- new-user, alternating-users: the privileges of {login or 'the login'}, to grant"
            " them to the next login"
        ),
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON the_database.* TO {account} WITH GRANT OPTION;",
    )


def _quoted(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "''") + "'"
