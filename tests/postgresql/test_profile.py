"""The next login equals the current one, kind by kind, on PostgreSQL 18 and 15."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rotator.api import Credential, Denied, RotatorError, Secret, Severity
from rotator.testing.postgres import ScratchPostgres
from tests.postgresql import profiles
from tests.postgresql.bare_rotations import FIRST, Turns
from tests.sampling import sampled, sampled_pairs

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
    # A login may look up "$user" in each database: they would make the tests that follow slower.
    with server.connect() as admin, suppress(psycopg.errors.ObjectInUse):
        admin.execute(f"DROP DATABASE {name}_db WITH (FORCE)")


OVERLAPPING = [
    "new-user (the login is the group)",
    "new-user",
    "alternating-users",
    "alternating-users (group)",
]
ALL = [*OVERLAPPING, "single-user"]

# A kind: how it is set up ({n} the harness, {a} the login, {db} its database), what is asked as the
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
        CREATE TABLE {a}.mine (id int);
        GRANT SELECT ON {a}.mine TO {n}_grp""",
        "SELECT count(*) FROM mine",
    ),
    "comment of an operator": (
        "COMMENT ON ROLE {a} IS 'call 555, \"now\"'",
        """SELECT shobj_description(oid, 'pg_authid') LIKE '%call 555, %now%'
        FROM pg_roles
        WHERE rolname = session_user""",
    ),
}


@pytest.mark.parametrize("server", ["newest"], indirect=True)
@pytest.mark.parametrize(("kind", "strategy"), sampled_pairs(OBSERVED, ALL, of=4))
def test_the_application_observes_no_change(shop: Shop, kind: str, strategy: str):
    """Asked as the application, before the first rotation and after each of two."""
    observe(shop, kind, strategy)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["15"], indirect=True)
@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("kind", OBSERVED)
def test_the_application_observes_no_change_on_15(shop: Shop, kind: str, strategy: str):
    """The same; what CI runs on 15 is the sample of profiles below, and what is refused."""
    observe(shop, kind, strategy)


def observe(shop: Shop, kind: str, strategy: str) -> None:
    """Rotate twice; the application sees the same each time."""
    setup, question = OBSERVED[kind]
    number = int(shop.name[1:]) + 70_000
    words = {"n": shop.name, "a": f"{shop.name}_a", "db": shop.dbname, "number": number}
    shop.sql(setup.format(**words))
    turns = shop.turns(strategy)
    before = turns.ask(question.format(**words))
    assert before
    for _ in range(2):
        evidence = turns.rotate()
        assert evidence.ok
        assert turns.ask(question.format(**words)) == before


def refusal(turns: Turns) -> str:
    """Return what `create` refuses with; `plan` and `doctor` say the same, and nothing was sent."""
    before = turns.server_state()
    with pytest.raises(Denied) as raised:
        turns.create()
    error = raised.value
    with pytest.raises(Denied) as planned:
        turns.explain()
    assert planned.value.hint.split(" ")[:3] == error.hint.split(" ")[:3]
    findings = [one for one in turns.examine() if one.severity is Severity.ERROR]
    assert findings
    assert all(one.remedy in error.hint for one in findings)
    assert turns.server_state() == before
    return f"{error.what} {error.hint}"


NEW, ITSELF, PAIR, ONE = "new-user", OVERLAPPING[0], "alternating-users", "single-user"
# What cannot be carried: how it is set up, by which strategies, and the remedy in the refusal.
REFUSED = {
    "ownership": (
        "CREATE TABLE own (id int); ALTER TABLE own OWNER TO {a}",
        (NEW, PAIR),
        'REASSIGN OWNED BY "{a}" TO',
    ),
    "an expired login": (
        "ALTER ROLE {a} VALID UNTIL '2020-01-01'",
        (NEW, ITSELF, PAIR, ONE),
        "ALTER ROLE \"{a}\" VALID UNTIL 'infinity';",
    ),
    "a login that somebody has closed": (
        "ALTER ROLE {a} NOLOGIN",
        (NEW, ITSELF, PAIR, ONE),
        'ALTER ROLE "{a}" LOGIN;',
    ),
    "a user mapping": (
        """CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
        CREATE USER MAPPING FOR {a} SERVER far OPTIONS (user 'x', password 'y')""",
        (NEW, PAIR),
        "CREATE USER MAPPING FOR",
    ),
    "a role that acts as it": (
        "CREATE ROLE {n}_c; GRANT {a} TO {n}_c; ALTER ROLE {n}_c SET role TO {a}",
        (NEW,),
        'ALTER ROLE "{n}_c" SET role TO "{n}_grp";',
    ),
    "a security label": (
        """SET allow_system_table_mods = on; INSERT INTO pg_shseclabel
        SELECT oid, 1260, 'mac', 'secret' FROM pg_roles WHERE rolname = '{a}'""",
        (NEW, ITSELF, PAIR),
        "SECURITY LABEL FOR",
    ),
    "a policy for the waiting login alone": (
        """CREATE ROLE {n}_b; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE POLICY only_b ON t TO {n}_b USING (true)""",
        (PAIR,),
        'ALTER POLICY "only_b" ON public.t TO "{n}_b", "{a}";',
    ),
    "objects of the waiting login": (
        "CREATE ROLE {n}_b; CREATE TABLE own (id int); ALTER TABLE own OWNER TO {n}_b",
        (PAIR,),
        'REASSIGN OWNED BY "{n}_b" TO',
    ),
}


@pytest.mark.parametrize(
    ("kind", "strategy"),
    sampled([pytest.param(kind, one) for kind, row in REFUSED.items() for one in row[1]], of=2),
)
def test_what_cannot_be_carried_is_refused_before_the_first_statement(
    shop: Shop, kind: str, strategy: str
):
    """By `create`, `plan` and `doctor` alike, with the statement that mends it."""
    setup, _, remedy = REFUSED[kind]
    words = {"n": shop.name, "a": f"{shop.name}_a"}
    shop.sql(setup.format(**words))
    turns = shop.turns(strategy, adopted=frozenset({f"{shop.name}_b"}))
    assert remedy.format(**words) in refusal(turns)


@pytest.mark.parametrize("server", ["newest"], indirect=True)
@pytest.mark.parametrize("strategy", [NEW, PAIR])
def test_what_a_session_makes_for_itself_hinders_no_rotation(shop: Shop, strategy: str):
    """Temporary objects end with their session; an application has some at any time."""
    login = f"{shop.name}_a"
    with shop.server.connect(shop.dbname, login, FIRST) as application:
        for statement in (
            "CREATE TEMPORARY TABLE basket (id int)",
            f"GRANT SELECT ON basket TO {shop.name}_grp",
            "CREATE TYPE pg_temp.price AS (cents int)",
            "CREATE FUNCTION pg_temp.total() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ):
            application.execute(statement.encode())
        turns = shop.turns(strategy)
        assert not [one for one in turns.examine() if one.severity is Severity.ERROR]
        turns.rotate(revoke=False)
        application.execute("INSERT INTO basket VALUES (1)")
    turns.revoke()


def test_a_login_that_somebody_closed_stays_closed_when_its_rotation_is_undone(shop: Shop):
    """NOLOGIN is kept, and the undo opens nothing either."""
    login = f"{shop.name}_a"
    turns = shop.turns(ONE)
    shop.sql(f"ALTER ROLE {login} NOLOGIN")
    new = turns.propose()
    with pytest.raises(Denied, match="is NOLOGIN"):
        turns.create(new)
    turns.withdraw(new)
    assert shop.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", login) == [(False,)]


@pytest.mark.parametrize("strategy", OVERLAPPING)
def test_a_login_that_was_closed_because_it_leaked_is_replaced(shop: Shop, strategy: str):
    """Once its password is invalid, nothing is opened again by another one."""
    turns = shop.turns(strategy)
    shop.sql(f"ALTER ROLE {shop.name}_a NOLOGIN")
    assert turns.verify(turns.create(fenced=True)).ok


# What the admin needs where it is no superuser: the setup, and the statement that the refusal names,
# which is run then. By the version from which on it is enough.
GRANTED = {
    "a parameter that only superusers may set": (
        "ALTER ROLE {a} SET log_min_duration_statement TO 100",
        'GRANT SET ON PARAMETER "log_min_duration_statement" TO "{admin}";',
    ),
    "a custom parameter": (
        "ALTER ROLE {a} SET app.tenant TO 'x'",
        'GRANT SET ON PARAMETER "app"."tenant" TO "{admin}";',
    ),
    "a membership": (
        "CREATE ROLE {n}_x; GRANT {n}_x TO {a}",
        'GRANT "{n}_x" TO "{admin}" WITH ADMIN OPTION;',
    ),
    "the group": ("SELECT 1", 'GRANT "{n}_grp" TO "{admin}" WITH ADMIN OPTION;'),
    "CREATEDB": ("ALTER ROLE {a} CREATEDB", 'ALTER ROLE "{admin}" CREATEDB;'),
    "REPLICATION": ("ALTER ROLE {a} REPLICATION", 'ALTER ROLE "{admin}" REPLICATION;'),
    "a grant on another owner's table": (
        """CREATE ROLE {n}_o SUPERUSER; CREATE TABLE own (id int); ALTER TABLE own OWNER TO {n}_o;
        GRANT SELECT ON own TO {a}""",
        'GRANT "{n}_o" TO "{admin}";',
    ),
    "a policy on another owner's table": (
        """CREATE ROLE {n}_o SUPERUSER; CREATE TABLE own (id int); ALTER TABLE own OWNER TO {n}_o;
        CREATE POLICY p ON own TO {a} USING (true)""",
        'GRANT "{n}_o" TO "{admin}";',
    ),
}


@pytest.mark.parametrize("kind", sampled(list(GRANTED), of=2))
def test_the_grant_that_a_refusal_names_is_enough(shop: Shop, kind: str):
    """For an admin with CREATEROLE: what it may is carried, and the statement is exact for the rest."""
    setup, remedy = GRANTED[kind]
    words = {"n": shop.name, "a": f"{shop.name}_a", "admin": f"{shop.name}_admin"}
    shop.sql(
        """CREATE ROLE {admin} LOGIN CREATEROLE PASSWORD 'admin-password';
        GRANT {a} TO {admin} WITH ADMIN OPTION""".format(**words)
    )
    if kind != "the group":
        shop.sql("GRANT {n}_grp TO {admin} WITH ADMIN OPTION".format(**words))
    shop.sql(setup.format(**words))
    admin = Credential(username=words["admin"], password=Secret("admin-password"))
    turns = shop.turns(NEW, admin=admin)
    with turns.connect() as link:
        newer = link.info.server_version >= 160_000
    carried = {"a membership", "the group", "CREATEDB"}
    if not newer and kind in carried:
        turns.rotate()
        return
    said = refusal(turns)
    if not newer and kind == "REPLICATION":
        assert f'ALTER ROLE "{words["admin"]}" SUPERUSER;' in said
        return
    assert remedy.format(**words) in said
    shop.sql(remedy.format(**words))
    turns.rotate()


def test_a_waiting_login_is_brought_fully_in_line(shop: Shop):
    """What it has too much is taken from it: both were there before us (B10)."""
    b, x = f"{shop.name}_b", f"{shop.name}_x"
    shop.sql(
        f"""CREATE ROLE {x}; CREATE ROLE {b} LOGIN CREATEDB INHERIT CONNECTION LIMIT 3 PASSWORD 'b' VALID UNTIL '2020-01-01';
        GRANT {x} TO {b} WITH ADMIN OPTION; ALTER ROLE {b} SET work_mem TO '9MB';
        ALTER ROLE {b} IN DATABASE {shop.dbname} SET role TO {x}; GRANT SELECT ON t TO {b} WITH GRANT OPTION;
        GRANT CONNECT ON DATABASE {shop.dbname} TO {b}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON t TO {b}, {x} USING (true); ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {b};
        ALTER DEFAULT PRIVILEGES FOR ROLE {b} GRANT SELECT ON TABLES TO PUBLIC"""
    )
    turns = shop.turns("alternating-users (group)", adopted=frozenset({b}))
    new = turns.create()
    assert turns.verify(new).ok
    assert shop.sql(
        """SELECT rolcreatedb, rolconnlimit, isfinite(rolvaliduntil), NOT pg_has_role(oid, %s, 'MEMBER'),
            NOT has_table_privilege(oid, 't', 'SELECT WITH GRANT OPTION')
        FROM pg_roles WHERE rolname = %s""",
        x,
        b,
    ) == [(False, -1, False, True, True)]
    assert shop.sql("SELECT polroles::regrole[]::text FROM pg_policy") == [(f"{{{x}}}",)]
    assert shop.sql("SELECT setconfig FROM pg_db_role_setting WHERE setrole = %s::regrole", b) in (
        [],
        [([f"role={shop.name}_grp"],)],
    )
    assert shop.sql(
        "SELECT count(*) FROM pg_shdepend WHERE refobjid = %s::regrole AND deptype <> 'o'", b
    ) == [(0,)]
    turns.publish(new)
    turns.revoke()
    turns.rotate()


@pytest.mark.parametrize("server", ["newest"], indirect=True)
@pytest.mark.parametrize(
    ("has", "wants"),
    [
        ("SELECT ON own", 'SELECT ("Odd") ON own'),
        ('SELECT ON own; SELECT ("Odd") ON own', 'SELECT ("Odd") ON own'),
        ("ALL ON own", 'INSERT (id), UPDATE ("Odd") ON own'),
        ("SELECT ON own +", 'SELECT ON own; SELECT ("Odd") ON own +'),
        ('SELECT ON own +; SELECT ("Odd") ON own +', 'SELECT ("Odd", id) ON own +'),
        ('SELECT ("Odd") ON own +', "SELECT ON own"),
        ('SELECT ("Odd", id) ON own', "INSERT ON own"),
    ],
)
def test_what_is_taken_from_a_table_leaves_what_is_given_on_its_columns(
    shop: Shop, has: str, wants: str
):
    """`REVOKE` on a table takes the rights on its columns along; `+` is WITH GRANT OPTION."""
    a, b = f"{shop.name}_a", f"{shop.name}_b"
    shop.sql(
        f"CREATE TABLE own (id int, \"Odd\" int); CREATE ROLE {b} LOGIN IN ROLE {shop.name}_grp PASSWORD 'b'"
    )
    for login, given in ((a, wants), (b, has)):
        for one in given.split("; "):
            option = " WITH GRANT OPTION" if one.endswith("+") else ""
            shop.sql(f"GRANT {one.rstrip(' +')} TO {login}{option}")

    def rights(login: str) -> list[tuple[Any, ...]]:
        return shop.sql(
            """SELECT c, p, has_column_privilege(%s, 'own', c, p), has_table_privilege(%s, 'own', p)
            FROM unnest('{id,Odd}'::text[]) c, unnest('{SELECT,INSERT,UPDATE}'::text[]) q,
                 unnest(ARRAY[q, q || ' WITH GRANT OPTION']) p
            ORDER BY c, p""",
            login,
            login,
        )

    before = rights(a)
    turns = shop.turns("alternating-users (group)", adopted=frozenset({b}))
    new = turns.create()
    assert turns.verify(new).ok
    assert new.username == b
    assert rights(b) == before


@pytest.mark.parametrize("server", ["newest"], indirect=True)
@pytest.mark.parametrize("each", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_revoke_that_is_cut_at_any_statement_takes_nothing_from_the_served_login(
    shop: Shop, each: int
):
    """What the old one holds no more, when the step is tried again, is no excess of the new one."""
    a = f"{shop.name}_a"
    shop.sql(
        f"""GRANT UPDATE ON t TO {a} WITH GRANT OPTION; CREATE ROLE {shop.name}_m; GRANT {a} TO {shop.name}_m;
        GRANT INSERT (id) ON t TO {a}; CREATE POLICY p ON t TO {a}, {shop.name}_grp USING (true)"""
    )
    shop.sql(f"CREATE TABLE second (id int); GRANT SELECT ON second TO {a}", dbname="postgres")
    try:
        turns = shop.turns("new-user")

        def rights() -> tuple[Any, ...]:
            login = turns.current.username
            return (
                shop.sql(
                    """SELECT a.privilege_type, a.is_grantable FROM pg_class, aclexplode(relacl) a
                    WHERE relname = 't' AND grantee = %s::regrole ORDER BY 1""",
                    login,
                ),
                shop.sql("SELECT has_column_privilege(%s, 't', 'id', 'INSERT')", login),
                shop.sql(
                    "SELECT count(*) FROM pg_policy WHERE %s::regrole = ANY (polroles)", login
                ),
                shop.sql("SELECT count(*) FROM pg_auth_members WHERE roleid = %s::regrole", login),
                shop.sql(
                    "SELECT has_table_privilege(%s, 'second', 'SELECT')", login, dbname="postgres"
                ),
            )

        before, number, came = rights(), 0, [""]
        while len(came) >= number:
            number += each
            turns.rotate(revoke=False)
            with profiles.cut_before(number) as came, suppress(RotatorError):
                turns.revoke()
            turns.revoke()
            assert rights() == before, f"cut before statement {number}"
        assert number > 10
    finally:
        shop.sql("DROP TABLE second", dbname="postgres")


@pytest.mark.parametrize("place", ["", " IN DATABASE one"])
@pytest.mark.parametrize("role", ["x1", "none"])
@pytest.mark.parametrize("shape", ["new-user-itself", "new-user", "alternating-users"])
def test_a_role_setting_without_effect_keeps_what_the_application_makes_as_it_was(
    role: str, place: str, shape: str
):
    """It acts as itself all the same, and what it makes gets its default privileges."""
    profile = profiles.Profile(name="idle", shape=shape)
    for text in (
        f"CREATE ROLE idle LOGIN PASSWORD '{profiles.FIRST}'; CREATE ROLE idle_grp; GRANT idle_grp TO idle",
        "GRANT USAGE, CREATE ON SCHEMA s1 TO idle",
        f"ALTER ROLE idle{place} SET role TO {role}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE idle GRANT SELECT ON TABLES TO dave",
    ):
        profile.add(text)
    with profiles.servers() as servers:
        found = {version: profiles.try_profile(one, profile) for version, one in servers.items()}
    assert not any(found.values()), found


@pytest.mark.parametrize("count", [50, pytest.param(300, marks=pytest.mark.slow)])
def test_random_profiles_differ_in_nothing_but_the_name(count: int):
    """Of every five one for each strategy; a part of them on each server that is to be had here."""
    with profiles.servers() as servers:
        found = [
            f"{version}, profile {seed}: {one}"
            for place, (version, server) in enumerate(servers.items())
            for seed in range(1, count + 1)
            if seed // 5 % len(servers) == place
            for one in profiles.try_one(server, seed)
        ]
    assert found == []
