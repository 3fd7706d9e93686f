"""Where `make chaos` kills: a real server of one kind, with a login for each strategy of its plugin."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self

import psycopg
import pymysql
import valkey

from rotator.demo.client import PostgresLine
from rotator.testing.postgres import ScratchPostgres
from tests.load.troubles import mariadb_troubles, mysql_troubles, postgres_troubles, valkey_troubles
from tests.mysql.dialects import dialect_of, plain
from tests.postgresql import oracle
from tests.servers.mariadb import ScratchMariaDB
from tests.servers.mysql import ScratchMySQL
from tests.servers.valkey import ScratchValkey
from tests.valkey.sandboxes import make_user, rules, usable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.api import Credential
    from rotator.demo.client import Line
    from tests.load.troubles import Trouble
    from tests.servers.mysql_like import MySqlLikeServer


class ChaosTarget(Protocol):
    """One kind of target. `names`: the secret of each strategy. `failure`: what its driver raises."""

    names: ClassVar[Mapping[str, str]]
    secrets: ClassVar[str]
    failure: ClassVar[type[Exception]]
    password: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *args: object) -> None: ...

    @property
    def target(self) -> str:
        """The target's line in the configuration; its admin's password is in a file."""
        ...

    def connect(self, credential: Credential) -> Line:
        """Log in as an application does."""
        ...

    def logins(self) -> set[str]:
        """Return the logins that somebody could get into, the admin excepted."""
        ...

    def rights(self, login: str) -> set[str]:
        """Return all that a login may do, without its name."""
        ...

    def enrich(self, login: str) -> None:
        """Give a login what its successors must have too, where strategies alone give it nothing."""
        ...

    def troubles(self) -> Mapping[str, Trouble]:
        """Return what other people may do to the server meanwhile."""
        ...


# Of each login, beside what its group gives it.
_OF_ITS_OWN: Final = (
    "ALTER ROLE {} SET statement_timeout TO '31s'",
    "ALTER ROLE {} IN DATABASE shop SET work_mem TO '5MB'",
    "ALTER ROLE {} CONNECTION LIMIT 60",
    "ALTER ROLE {} VALID UNTIL '2099-01-01'",
    "GRANT auditor TO {} WITH ADMIN OPTION",
    "GRANT {} TO watcher",
    "GRANT UPDATE ON notes TO {}",
    "CREATE POLICY {} ON notes TO {} USING (true)",
)
_ROLE: Final = """
SELECT 'attributes', rolinherit::text, rolsuper::text, rolcreatedb::text, rolconnlimit::text, rolvaliduntil::text
FROM pg_roles WHERE rolname = %(login)s
UNION ALL SELECT 'member of', r.rolname, m.admin_option::text, m.inherit_option::text, m.set_option::text, ''
FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = %(login)s::regrole
UNION ALL SELECT 'has member', r.rolname, m.admin_option::text, m.inherit_option::text, m.set_option::text, ''
FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE m.roleid = %(login)s::regrole
UNION ALL SELECT 'may', c.relname, p, has_table_privilege(%(login)s, c.oid, p)::text, '', ''
FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p WHERE c.relname IN ('orders', 'notes')
UNION ALL SELECT 'policy', count(*)::text, '', '', '', '' FROM pg_policy WHERE %(login)s::regrole = ANY (polroles)
"""


class PostgresChaosTarget:
    """A PostgreSQL, whose roles are members of one that owns everything."""

    names: ClassVar[Mapping[str, str]] = {
        "new-user": "fresh",
        "alternating-users": "pair",
        "single-user": "single",
    }
    secrets: ClassVar[str] = """\
  fresh: {{target: shop, backend: {backend}, strategy: new-user, options: {{group: app_owner}}}}
  pair:
    target: shop
    backend: {backend}
    strategy: alternating-users
    options: {{group: app_owner, users: [pair_a, pair_b]}}
  single:
    target: shop
    backend: {backend}
    strategy: single-user
    options: {{username: single, group: app_owner}}
"""
    failure: ClassVar[type[Exception]] = psycopg.Error

    def __init__(self, server: ScratchPostgres) -> None:
        """Started by whoever made it: the journal may be there too."""
        self.server: ScratchPostgres = server
        self.password: str = server.superuser_password

    def __enter__(self) -> Self:
        with self.server.connect() as admin:
            admin.execute("CREATE DATABASE shop")
        with self.server.connect("shop") as admin:
            admin.execute("CREATE ROLE app_owner NOLOGIN")
            admin.execute("CREATE TABLE orders (id int)")
            admin.execute("ALTER TABLE orders OWNER TO app_owner")
            admin.execute("GRANT SELECT ON orders TO PUBLIC")
            admin.execute("CREATE ROLE auditor NOLOGIN")
            admin.execute("CREATE ROLE watcher NOLOGIN")
            admin.execute("CREATE TABLE notes (id int)")
            admin.execute("ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def target(self) -> str:
        place = f"host: {self.server.host}, port: {self.server.port}, dbname: shop"
        return f'{{plugin: postgresql, {place}, admin: {{username: postgres, password: "file:admin-password"}}}}'

    def connect(self, credential: Credential) -> Line:
        return PostgresLine(self.server, "SELECT count(*) FROM orders", "chaos", credential)

    def logins(self) -> set[str]:
        with self.server.connect() as admin:
            found = admin.execute(
                "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname NOT IN"
                " ('postgres', 'app_owner', 'auditor', 'watcher') AND (rolcanlogin OR rolname !~ '^pair_')"
            ).fetchall()
        return {row[0] for row in found}

    def rights(self, login: str) -> set[str]:
        with self.server.connect() as admin:
            kept = oracle.by_catalog(admin, login).items()
        with self.server.connect("shop") as admin:
            found = admin.execute(_ROLE, {"login": login}).fetchall()
        return {str(row) for row in (*kept, *found)}

    def enrich(self, login: str) -> None:
        name = psycopg.sql.Identifier(login)
        with self.server.connect("shop") as admin:
            for statement in _OF_ITS_OWN:
                admin.execute(psycopg.sql.SQL(statement).format(*[name] * statement.count("{}")))

    def troubles(self) -> Mapping[str, Trouble]:
        return postgres_troubles(self.server)


class MariaChaosTarget:
    """A MariaDB, whose accounts have something of everything that is to be copied."""

    names: ClassVar[Mapping[str, str]] = {
        "dual-password": "dual",
        "new-user": "fresh",
        "alternating-users": "pair",
        "single-user": "single",
    }
    secrets: ClassVar[str] = """\
  dual: {{target: shop, backend: {backend}, strategy: dual-password, options: {{username: dual, like: model}}}}
  fresh: {{target: shop, backend: {backend}, strategy: new-user, options: {{prefix: fresh, like: model}}}}
  pair:
    target: shop
    backend: {backend}
    strategy: alternating-users
    options: {{users: [pair_a, pair_b], like: model}}
  single: {{target: shop, backend: {backend}, strategy: single-user, options: {{username: single, like: model}}}}
"""
    failure: ClassVar[type[Exception]] = pymysql.MySQLError

    def __init__(self) -> None:
        """Nothing is started yet."""
        self.server: MySqlLikeServer = self._server()
        self.password: str = self.server.root_password

    @staticmethod
    def _server() -> MySqlLikeServer:
        return ScratchMariaDB()

    def __enter__(self) -> Self:
        _ = self.server.__enter__()
        self.server.run(
            "CREATE DATABASE shop",
            "CREATE TABLE shop.orders (id int)",
            "CREATE ROLE reader",
            "GRANT SELECT ON shop.* TO reader",
            "CREATE USER model@'%' IDENTIFIED BY 'nobody-knows-it' WITH MAX_USER_CONNECTIONS 90 ACCOUNT LOCK",
            "GRANT INSERT, UPDATE ON shop.* TO model@'%' WITH GRANT OPTION",
            "GRANT SELECT (id) ON shop.orders TO model@'%'",
            "GRANT reader TO model@'%' WITH ADMIN OPTION",
            dialect_of(self.server).default_role("reader", "model@'%'"),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__(None, None, None)

    @property
    def target(self) -> str:
        place = f"host: {self.server.host}, port: {self.server.port}"
        return f'{{plugin: mysql, {place}, admin: {{username: root, password: "file:admin-password"}}}}'

    def connect(self, credential: Credential) -> Line:
        return _MariaLine(
            self.server.connect(credential.username, credential.password.reveal(), "shop")
        )

    def logins(self) -> set[str]:
        accounts = dialect_of(self.server).accounts(self.server, "")
        return {
            name
            for name, locked in accounts.items()
            if name.startswith("fresh")
            or (name.startswith(("dual", "pair", "single")) and not locked)
        }

    def rights(self, login: str) -> set[str]:
        found = self.server.run(f"SHOW GRANTS FOR `{login}`@'%'")
        found += self.server.run(f"SHOW CREATE USER `{login}`@'%'")
        return {plain(str(row[0]), login) for row in found}

    def enrich(self, login: str) -> None:
        """The login that it is made like has something of everything."""

    def troubles(self) -> Mapping[str, Trouble]:
        return mariadb_troubles(self.server)


class MySqlChaosTarget(MariaChaosTarget):
    """The same on a MySQL."""

    @staticmethod
    def _server() -> MySqlLikeServer:
        return ScratchMySQL()

    def troubles(self) -> Mapping[str, Trouble]:
        return mysql_troubles(self.server)


class _MariaLine:
    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def use(self) -> None:
        with closing(self._raw.cursor()) as cursor:
            cursor.execute("SELECT count(*) FROM orders")

    def close(self) -> None:
        self._raw.close()


class ValkeyChaosTarget:
    """A Valkey with an ACL file, whose users may do something of everything."""

    names: ClassVar[Mapping[str, str]] = MariaChaosTarget.names
    secrets: ClassVar[str] = MariaChaosTarget.secrets
    failure: ClassVar[type[Exception]] = valkey.ValkeyError

    def __init__(self) -> None:
        """Nothing is started yet."""
        self.server: ScratchValkey = ScratchValkey()
        self.password: str = self.server.password

    def __enter__(self) -> Self:
        _ = self.server.__enter__()
        make_user(self.server, "model", "off")
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__(None, None, None)

    @property
    def target(self) -> str:
        place = f"host: {self.server.host}, port: {self.server.port}"
        return f'{{plugin: valkey, {place}, admin: {{username: default, password: "file:admin-password"}}}}'

    def connect(self, credential: Credential) -> Line:
        line = _ValkeyLine(self.server.client(credential.username, credential.password.reveal()))
        line.use()
        return line

    def logins(self) -> set[str]:
        found: set[str] = set()
        for prefix in ("dual", "fresh_", "pair_", "single"):
            found |= usable([self.server], prefix)
        return found

    def rights(self, login: str) -> set[str]:
        return set(rules(self.server, login))

    def enrich(self, login: str) -> None:
        """The login that it is made like has something of everything."""

    def troubles(self) -> Mapping[str, Trouble]:
        return valkey_troubles(self.server)


class _ValkeyLine:
    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def use(self) -> None:
        self._raw.get("cache:one")

    def close(self) -> None:
        self._raw.close()


GROUNDS: Final[Mapping[str, type[MariaChaosTarget | ValkeyChaosTarget]]] = {
    "mysql": MariaChaosTarget,
    "valkey": ValkeyChaosTarget,
}


def chaos_target_of(plugin: str, server: str | None = None) -> MariaChaosTarget | ValkeyChaosTarget:
    """Return where a plugin rotates. `server`: `mysql`, for a plugin of that name that else uses MariaDB."""
    return MySqlChaosTarget() if (plugin, server) == ("mysql", "mysql") else GROUNDS[plugin]()
