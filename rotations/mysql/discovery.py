"""Lists the accounts of a server, for `rotator discover`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rotations.mysql.accounts import quoted_account
from rotations.mysql.mariadb import MariaDbAccounts
from rotator.api import FoundLogin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotations.mysql.accounts import Accounts
    from rotations.mysql.server import Server
    from rotator.api import MarkedLogin, StepContext

# What the servers, their packages and managed services log in with.
_INTERNAL: Final = frozenset(
    {
        "debian-sys-maint",
        "mariadb.sys",
        "mysql.infoschema",
        "mysql.session",
        "mysql.sys",
        "rdsadmin",
        "rdsrepladmin",
    }
)
_PASSWORDS: Final = frozenset(
    {
        "caching_sha2_password",
        "ed25519",
        "mysql_native_password",
        "mysql_old_password",
        "parsec",
        "sha256_password",
    }
)
_RIGHTS: Final = ("Create_user", "File", "Grant", "Process", "Reload", "Repl_slave", "Shutdown")
_PRIVILEGES: Final = ", ".join(f"u.{right}_priv" for right in _RIGHTS)
_OF_MARIADB: Final = f"""
SELECT u.User, u.Host, u.plugin, coalesce(json_value(g.Priv, '$.account_locked'), 0) IN ('1', 'true'),
       json_value(g.Priv, '$.password_last_changed'), u.Super_priv, {_PRIVILEGES}
FROM mysql.user u JOIN mysql.global_priv g ON g.User = u.User AND g.Host = u.Host
WHERE u.is_role = 'N' AND u.User <> '' ORDER BY 1, 2
"""  # noqa: S608 # of constants
# A role is a locked account without a password.
_OF_MYSQL: Final = f"""
SELECT u.User, u.Host, u.plugin, u.account_locked = 'Y', UNIX_TIMESTAMP(u.password_last_changed), u.Super_priv,
       {_PRIVILEGES}
FROM mysql.user u
WHERE u.User <> '' AND NOT (u.account_locked = 'Y' AND u.authentication_string = '') ORDER BY 1, 2
"""  # noqa: S608 # of constants
_SESSIONS: Final = """
SELECT USER, count(*), min(CASE WHEN COMMAND = 'Sleep' THEN TIME ELSE 0 END)
FROM information_schema.PROCESSLIST
WHERE ID <> CONNECTION_ID() AND COMMAND NOT IN ('Killed', 'Daemon') GROUP BY USER
"""


def logins(server: Server, ctx: StepContext) -> list[FoundLogin]:
    """Return all accounts. Sessions are of a user name, from whichever host."""
    with server.admin("listing accounts", ctx) as accounts:
        is_mariadb = isinstance(accounts, MariaDbAccounts)
        rows = accounts.admin.run(_OF_MARIADB if is_mariadb else _OF_MYSQL)
        marks = {login.remove: login for login in accounts.marked()}
        sessions = _sessions(accounts, ctx)
    # On MariaDB a mark is another account, which does not name its own.
    return [_login(row, marks, sessions, shows_marks=not is_mariadb) for row in rows]


def _sessions(accounts: Accounts, ctx: StepContext) -> Mapping[str, tuple[int, datetime]]:
    now = ctx.clock.now()
    return {
        str(name): (int(count), now - timedelta(seconds=max(0, int(idle))))
        for name, count, idle in accounts.admin.run(_SESSIONS)
    }


def _login(
    row: tuple[Any, ...],
    marks: Mapping[str, MarkedLogin],
    sessions: Mapping[str, tuple[int, datetime]],
    *,
    shows_marks: bool,
) -> FoundLogin:
    name, host, plugin, locked, changed, can_do_all, *flags = row
    remove = f"DROP USER {quoted_account(str(name), str(host))}".replace("%%", "%")
    mark = marks.get(remove)
    count, last_used = sessions.get(str(name), (0, None))
    # 0: the server did not keep it, as for an account that is older than this column.
    seconds = int(float(changed)) if changed is not None else 0
    return FoundLogin(
        login=str(name),
        host=str(host),
        can_login=not locked,
        has_password=str(plugin) in _PASSWORDS or str(plugin) == "",
        is_superuser=can_do_all == "Y",
        rights=tuple(
            right.replace("_", " ").upper()
            for right, has in zip(_RIGHTS, flags, strict=True)
            if has == "Y"
        ),
        is_internal=str(name) in _INTERNAL,
        password_set=datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None,
        last_used=last_used,
        sessions=count,
        is_marked=shows_marks and mark is not None,
        is_of=mark.is_of if mark is not None else _of_nobody,
        remove=remove,
    )


def _of_nobody(_secret: str) -> bool:
    return False
