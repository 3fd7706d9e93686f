"""The next login equals the current one, kind by kind, on PostgreSQL 18 and 15."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rotator.testing.postgres import ScratchPostgres
from tests.postgresql.turns import FIRST, Turns

_OLDER = Path("/usr/lib/postgresql/15/bin")
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["newest", "15"])
def server(request: pytest.FixtureRequest) -> Iterator[ScratchPostgres]:
    """Return a server of its own, since these tests rewrite pg_hba.conf and system catalogs."""
    if request.param == "15" and not (_OLDER / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
    with ScratchPostgres(
        settings={"wal_level": "logical", "max_worker_processes": "20"},
        binaries=_OLDER if request.param == "15" else None,
    ) as made:
        with made.connect() as admin:
            admin.execute("CREATE DATABASE db_2")
        yield made


@dataclass(kw_only=True)
class Shop:
    """One database with a table `t`, a login `…_a`, and the group that it is a member of."""

    server: ScratchPostgres
    name: str
    dbname: str
    close: list[Any] = field(default_factory=list)

    def sql(self, statement: str, *values: object, dbname: str | None = None) -> list[tuple]:
        with self.server.connect(dbname or self.dbname) as admin:
            done = admin.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def turns(self, strategy: str, **more: Any) -> Turns:
        name, group = f"{self.name}_a", f"{self.name}_grp"
        options: dict[str, Any] = {
            "new-user (the login is the group)": {"group": name},
            "new-user": {"group": group},
            "alternating-users": {"users": (name, f"{self.name}_b")},
            "alternating-users (group)": {"users": (name, f"{self.name}_b"), "group": group},
            "single-user": {"username": name},
        }[strategy]
        made = Turns(
            self.server,
            strategy.partition(" (")[0],
            name,
            dbname=self.dbname,
            **{**options, **more},
        )
        self.close.append(made.close)
        return made


@pytest.fixture
def shop(server: ScratchPostgres) -> Iterator[Shop]:
    name = f"p{next(_numbers)}"
    with server.connect() as admin:
        admin.execute(f"CREATE ROLE {name}_grp NOLOGIN")
        admin.execute(f"CREATE ROLE {name}_a LOGIN PASSWORD '{FIRST}' IN ROLE {name}_grp")
        admin.execute(f"CREATE DATABASE {name}_db")
    made = Shop(server=server, name=name, dbname=f"{name}_db")
    made.sql("CREATE TABLE t (id int, name text); INSERT INTO t VALUES (1, 'x')")
    made.sql(f"GRANT ALL ON t TO {name}_grp")
    yield made
    for close in made.close:
        close()


OVERLAPPING = [
    "new-user (the login is the group)",
    "new-user",
    "alternating-users",
    "alternating-users (group)",
]
ALL = [*OVERLAPPING, "single-user"]

# A kind: how it is set up ({n} the house, {a} the login, {db} its database), what is asked as the
# application before and after, and where it is set up.
OBSERVED = {
    "settings of the role": (
        "ALTER ROLE {a} SET statement_timeout TO '31s'",
        "SHOW statement_timeout",
    ),
    "settings in one database": (
        'ALTER ROLE {a} IN DATABASE {db} SET search_path TO sales, "$user", \'Odd, "one"\'',
        "SHOW search_path",
    ),
    "a custom setting": (
        "ALTER ROLE {a} SET app.tenant TO 'x''y'",
        "SHOW app.tenant",
    ),
    "the role that it acts as": (
        "ALTER ROLE {a} SET role TO {n}_grp",
        "SELECT current_user",
    ),
    "the role that it acts as in one database": (
        "CREATE ROLE {n}_x; GRANT {n}_x TO {a}; ALTER ROLE {a} IN DATABASE {db} SET role TO {n}_x",
        "SELECT current_user",
    ),
    "connection limit": (
        "ALTER ROLE {a} CONNECTION LIMIT 7",
        "SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user",
    ),
    "expiry": (
        "ALTER ROLE {a} VALID UNTIL '2099-05-06 07:08:09.5+00'",
        "SELECT rolvaliduntil AT TIME ZONE 'UTC' FROM pg_roles WHERE rolname = session_user",
    ),
    "CREATEDB": (
        "ALTER ROLE {a} CREATEDB",
        "SELECT bool_and(rolcreatedb) FROM pg_roles WHERE rolname IN (session_user, current_user)",
    ),
    "CREATEROLE": (
        "ALTER ROLE {a} CREATEROLE",
        """SELECT bool_and(rolcreaterole)
        FROM pg_roles
        WHERE rolname IN (session_user, current_user)""",
    ),
    "REPLICATION": (
        "ALTER ROLE {a} REPLICATION",
        "SELECT rolreplication FROM pg_roles WHERE rolname = session_user",
    ),
    "BYPASSRLS": (
        "ALTER ROLE {a} BYPASSRLS; ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "SELECT count(*) FROM t",
    ),
    "a row policy that names it": (
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t TO {a} USING (true)",
        "SELECT count(*) FROM t",
    ),
    "a membership with ADMIN OPTION": (
        "CREATE ROLE {n}_x; GRANT {n}_x TO {a} WITH ADMIN OPTION",
        "SELECT pg_has_role(current_user, '{n}_x', 'USAGE WITH ADMIN OPTION')",
    ),
    "an inherited membership that the group lacks": (
        """CREATE ROLE {n}_x;
        GRANT {n}_x TO {a};
        CREATE TABLE own (id int);
        GRANT SELECT ON own TO {n}_x""",
        "SELECT has_table_privilege('own', 'SELECT')",
    ),
    "a grant of its own": (
        "CREATE TABLE own (id int); GRANT SELECT, UPDATE ON own TO {a} WITH GRANT OPTION",
        """SELECT has_table_privilege('own', p)
        FROM unnest('{{SELECT,UPDATE WITH GRANT OPTION,DELETE}}'::text[]) p""",
    ),
    "a grant on a column": (
        'CREATE TABLE own (id int, "Odd" int); GRANT SELECT ("Odd") ON own TO {a}',
        "SELECT has_column_privilege('own', c, 'SELECT') FROM unnest('{{id,Odd}}'::text[]) c",
    ),
    "a grant on a schema, a sequence, a function, a type": (
        """CREATE SCHEMA "S x";
        GRANT USAGE ON SCHEMA "S x" TO {a};
        CREATE SEQUENCE "S x".q;
        GRANT USAGE ON "S x".q TO {a};
        CREATE FUNCTION f(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
        REVOKE ALL ON FUNCTION f
        FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION f TO {a};
        CREATE TYPE y AS (i int);
        REVOKE ALL ON TYPE y
        FROM PUBLIC;
        GRANT USAGE ON TYPE y TO {a}""",
        """SELECT has_schema_privilege('S x', 'USAGE'),
        has_sequence_privilege('"S x".q', 'USAGE'),
        has_function_privilege('f(int, text)', 'EXECUTE'),
        has_type_privilege('y', 'USAGE')""",
    ),
    "a grant on a database, a language": (
        """REVOKE CONNECT ON DATABASE db_2
        FROM PUBLIC;
        GRANT CONNECT, CREATE ON DATABASE db_2 TO {a};
        REVOKE USAGE ON LANGUAGE sql
        FROM PUBLIC;
        GRANT USAGE ON LANGUAGE sql TO {a}""",
        """SELECT has_database_privilege('db_2', 'CONNECT'),
        has_database_privilege('db_2', 'CREATE'),
        has_language_privilege('sql', 'USAGE')""",
    ),
    "a grant on a large object": (
        "SELECT lo_create({number}); GRANT SELECT ON LARGE OBJECT {number} TO {a}",
        "SELECT length(lo_get({number}))",
    ),
    "default privileges that grant to it": (
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {a}",
        """SELECT count(*)
        FROM pg_default_acl, aclexplode(defaclacl) e
        WHERE defaclrole = 10 AND pg_has_role(current_user, e.grantee, 'USAGE')""",
    ),
    "default privileges of its own": (
        """CREATE SCHEMA s;
        ALTER DEFAULT PRIVILEGES FOR ROLE {a} IN SCHEMA s GRANT SELECT ON TABLES TO {n}_grp WITH GRANT OPTION;
        ALTER DEFAULT PRIVILEGES FOR ROLE {a} REVOKE EXECUTE ON ROUTINES
        FROM PUBLIC""",
        """SELECT defaclobjtype, replace(array_to_string(defaclacl, ','), current_user, 'me')
        FROM pg_default_acl
        WHERE defaclrole = (SELECT oid
        FROM pg_roles
        WHERE rolname = current_user) ORDER BY 1""",
    ),
    'a schema that "$user" finds': (
        """CREATE SCHEMA {a};
        GRANT USAGE ON SCHEMA {a} TO {n}_grp;
        CREATE TABLE {a}.only (id int);
        GRANT SELECT ON {a}.only TO {n}_grp""",
        "SELECT count(*) FROM only",
    ),
    "comment of an operator": (
        "COMMENT ON ROLE {a} IS 'call 555, \"now\"'",
        """SELECT shobj_description(oid, 'pg_authid') LIKE '%call 555, %now%'
        FROM pg_roles
        WHERE rolname = session_user""",
    ),
}


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("kind", OBSERVED)
def test_the_application_observes_no_change(shop: Shop, kind: str, strategy: str):
    """Asked as the application, before the first rotation and after each of three."""
    setup, question = OBSERVED[kind]
    number = int(shop.name[1:]) + 70_000
    words = {"n": shop.name, "a": f"{shop.name}_a", "db": shop.dbname, "number": number}
    shop.sql(setup.format(**words))
    turns = shop.turns(strategy)
    before = turns.ask(question.format(**words))
    assert before
    for _ in range(3):
        evidence = turns.rotate()
        assert evidence.ok
        assert turns.ask(question.format(**words)) == before
