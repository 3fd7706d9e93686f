"""Logins with everything that a login can have, drawn at random, rotated, and compared by the oracle."""

from __future__ import annotations

import random
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import psycopg

from rotator.api import RotatorError
from rotator.testing.postgres import ScratchPostgres
from tests.postgresql import oracle
from tests.postgresql.bare_rotations import FIRST, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    Admins = Mapping[str, psycopg.Connection[tuple[Any, ...]]]

DATABASES: Final = ("one", "two")
_SHARED: Final = ("x1", "x2", "x3", "owner1", "carol", "dave")
_TABLES: Final = ("s1.t1", "s1.t2", "s2.t3")
_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_OLDER: Final = Path("/usr/lib/postgresql/15/bin")
_SHAPES: Final = (
    "new-user",
    "new-user-itself",
    "alternating-users",
    "alternating-group",
    "single-user",
)
# Both kinds of hash log in by it.
_HBA: Final = ("host all all 127.0.0.1/32 md5",)
_OPTIONS_SINCE: Final = 160_000
# How many steps have their connection cut.
_CUT: Final = 0.5

_SCHEMA: Final = """
CREATE SCHEMA s1 AUTHORIZATION owner1; CREATE SCHEMA s2; GRANT USAGE ON SCHEMA s1 TO PUBLIC;
CREATE TABLE s1.t1 (id int, word text); INSERT INTO s1.t1 VALUES (1, 'a'), (2, 'b');
CREATE TABLE s1.t2 (id int, word text); INSERT INTO s1.t2 VALUES (1, 'a'), (2, 'b'), (3, 'c');
ALTER TABLE s1.t2 ENABLE ROW LEVEL SECURITY; GRANT SELECT ON s1.t2 TO PUBLIC;
CREATE TABLE s2.t3 (id int, "Odd word" text); ALTER TABLE s1.t1 OWNER TO owner1; ALTER TABLE s1.t2 OWNER TO owner1;
CREATE SEQUENCE s1.q; CREATE FUNCTION s1.f(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE ALL ON FUNCTION s1.f FROM PUBLIC; GRANT SELECT ON s2.t3 TO x1; GRANT UPDATE ON s1.t1 TO x2;
GRANT USAGE ON SCHEMA s2 TO x3; SELECT lo_create(7001), lo_create(7002);
"""


@contextmanager
def servers() -> Iterator[dict[str, ScratchPostgres]]:
    """Start every server that is to be had here, with what profiles have rights on."""
    with ExitStack() as stack:
        found: dict[str, ScratchPostgres] = {}
        for binaries in (None, _OLDER):
            if binaries is not None and not (binaries / "initdb").exists():
                continue
            server = stack.enter_context(ScratchPostgres(binaries=binaries, hba=_HBA))
            prepare(server)
            found[server.version] = server
        yield found


def prepare(server: ScratchPostgres) -> None:
    """Make two databases and some roles."""
    with server.connect() as admin:
        for role in _SHARED:
            admin.execute(f"CREATE ROLE {role}".encode())
        for database in DATABASES:
            admin.execute(f"CREATE DATABASE {database}".encode())
    for database in DATABASES:
        with server.connect(database) as admin:
            admin.execute(_SCHEMA.encode())


class Chance(random.Random):
    """Where a profile comes from."""

    def likely(self, part: float) -> bool:
        return self.random() < part

    def database(self) -> str:
        return self.choice(DATABASES)


@dataclass(slots=True)
class Profile:
    """One drawn login: SQL for each database, and how it is rotated."""

    name: str
    shape: str
    statements: list[tuple[str, str]] = field(default_factory=list)
    end: list[tuple[str, str]] = field(default_factory=list)

    def add(self, text: str, database: str = DATABASES[0]) -> None:
        self.statements.append((database, text))

    def turns(self, server: ScratchPostgres) -> Turns:
        a, b, group = self.name, f"{self.name}_b", f"{self.name}_grp"
        strategy, options = {
            "new-user": ("new-user", {"group": group}),
            "new-user-itself": ("new-user", {"group": a}),
            "alternating-users": ("alternating-users", {"users": (a, b)}),
            "alternating-group": ("alternating-users", {"users": (a, b), "group": group}),
            "single-user": ("single-user", {"username": a}),
        }[self.shape]
        return Turns(server, strategy, a, dbname=DATABASES[0], adopted=frozenset({b}), **options)


def draw(seed: int, version: int) -> Profile:
    """Draw a profile; the same one for the same seed."""
    chance = Chance(seed)
    name = f"p{seed}"
    made = Profile(name=name, shape=_SHAPES[seed % len(_SHAPES)])
    likely = chance.likely
    md5 = likely(0.25)
    made.add(f"SET password_encryption = '{'md5' if md5 else 'scram-sha-256'}'")
    if version >= _OPTIONS_SINCE and likely(0.3):
        made.statements[-1] = (DATABASES[0], made.statements[-1][1] + "; SET scram_iterations = 7")
    attributes = [
        word
        for word in ("CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS", "NOINHERIT")
        if likely(0.15)
    ]
    made.statements[-1] = (
        DATABASES[0],
        f"{made.statements[-1][1]}; CREATE ROLE {name} LOGIN {' '.join(attributes)} PASSWORD '{FIRST}'",
    )
    made.add(f"CREATE ROLE {name}_grp")
    if made.shape in ("new-user", "alternating-group"):
        made.add(f"GRANT {name}_grp TO {name}")
        made.add(f"GRANT SELECT, INSERT ON s1.t1 TO {name}_grp", chance.choice(DATABASES))
        if likely(0.3):
            made.add(f"ALTER ROLE {name} SET role TO {name}_grp")
        if likely(0.3):
            made.add(f"GRANT x1 TO {name}_grp")
    if likely(0.3):
        made.add(f"ALTER ROLE {name} CONNECTION LIMIT {chance.randint(20, 40)}")
    if likely(0.3):
        made.add(f"ALTER ROLE {name} VALID UNTIL '2090-0{chance.randint(1, 9)}-01 01:02:03.25'")
    if likely(0.2):
        made.add(f"COMMENT ON ROLE {name} IS 'of team {seed}'")
    _holdings(made, name, chance, version, others=True)
    if made.shape.startswith("alternating") and likely(0.5):
        # The waiting login is there already, with rights of its own.
        made.add(f"CREATE ROLE {name}_b LOGIN {'CREATEDB' if likely(0.3) else ''} PASSWORD 'other'")
        _holdings(made, f"{name}_b", chance, version, others=False)
    if made.shape in ("new-user-itself", "single-user") and likely(0.5):
        database = chance.choice(DATABASES)
        made.add(
            f"CREATE TABLE s2.own_{name} (id int); ALTER TABLE s2.own_{name} OWNER TO {name}",
            database,
        )
    return made


def _holdings(made: Profile, name: str, chance: Chance, version: int, *, others: bool) -> None:
    likely, where = chance.likely, chance.database
    for setting in (
        "work_mem TO '3MB'",
        "app.x TO 'it''s'",
        "statement_timeout TO '77s'",
        'search_path TO "$user", s1, public',
        "search_path TO s2, 'No such, one'",
    ):
        if likely(0.2):
            place = f" IN DATABASE {where()}" if likely(0.5) else ""
            made.add(f"ALTER ROLE {name}{place} SET {setting}")
    for role in ("x1", "x2", "x3"):
        if not likely(0.3):
            continue
        options = [f"ADMIN {likely(0.3)}", f"INHERIT {likely(0.6)}", f"SET {likely(0.7)}"]
        given = f" WITH {', '.join(options)}" if version >= _OPTIONS_SINCE else ""
        made.add(f"GRANT {role} TO {name}{given or (' WITH ADMIN OPTION' if likely(0.3) else '')}")
        if others and likely(0.2):
            made.add(
                f"ALTER ROLE {name}{f' IN DATABASE {where()}' if likely(0.5) else ''} SET role TO {role}"
            )
    _grants(made, name, chance, others=others)
    for text in (
        f'GRANT SELECT ("Odd word") ON s2.t3 TO {name}',
        f"GRANT USAGE, CREATE ON SCHEMA s1 TO {name}",
        f"GRANT USAGE ON SCHEMA s2 TO {name} WITH GRANT OPTION",
        f"GRANT USAGE ON s1.q TO {name}",
        f"GRANT EXECUTE ON FUNCTION s1.f TO {name}",
        f"GRANT SELECT ON LARGE OBJECT 7001 TO {name}",
        f"GRANT CREATE ON DATABASE two TO {name}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {name} GRANT SELECT ON TABLES TO dave",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {name} IN SCHEMA s1 GRANT INSERT ON TABLES TO x3 WITH GRANT OPTION",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {name} REVOKE EXECUTE ON ROUTINES FROM PUBLIC",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE owner1 IN SCHEMA s1 GRANT SELECT ON TABLES TO {name}",
    ):
        if likely(0.15):
            made.add(text, where())
    if others and likely(0.4):
        also = ", x3" if likely(0.3) else ""
        made.add(
            f"CREATE POLICY {name} ON s1.t2 TO {name}{also} USING (id < 3)", database := where()
        )
        made.end.append((database, f"DROP POLICY {name} ON s1.t2"))
    if others and likely(0.25):
        made.add(
            f"CREATE SCHEMA {name}; CREATE TABLE {name}.mine (id int); GRANT USAGE ON SCHEMA {name} TO PUBLIC",
            database := where(),
        )
        made.end.append((database, f"DROP SCHEMA {name} CASCADE"))
    if others and likely(0.3):
        made.add(f"GRANT {name} TO carol{' WITH ADMIN OPTION' if likely(0.3) else ''}")


def _grants(made: Profile, name: str, chance: Chance, *, others: bool) -> None:
    likely, where = chance.likely, chance.database
    for table in _TABLES:
        for right in _RIGHTS:
            if likely(0.1):
                database, option = where(), " WITH GRANT OPTION" if likely(0.3) else ""
                made.add(f"GRANT {right} ON {table} TO {name}{option}", database)
                if option and others and table != "s2.t3" and likely(0.5):
                    made.add(
                        f"SET SESSION AUTHORIZATION {name}; GRANT {right} ON {table} TO dave; RESET SESSION AUTHORIZATION",
                        database,
                    )
                    made.end.append((database, f"REVOKE ALL ON {table} FROM dave"))


def try_one(server: ScratchPostgres, seed: int) -> list[str]:
    """Rotate one drawn profile three times; return every difference that the oracle sees."""
    with server.connect() as admin:
        version = admin.info.server_version
    return try_profile(server, draw(seed, version))


def try_profile(server: ScratchPostgres, profile: Profile) -> list[str]:
    """Rotate this profile three times; return every difference that the oracle sees."""
    with ExitStack() as stack:
        admins = {one: stack.enter_context(server.connect(one)) for one in DATABASES}
        _ = stack.callback(_clean, admins, profile)
        try:
            for database, text in profile.statements:
                admins[database].execute(f"{text}; RESET ALL".encode())
            with closing(profile.turns(server)) as turns:
                return _rotated(admins, profile, turns)
        except RotatorError as error:
            return [f"{type(error).__name__}: {error.what} {error.hint}"]


def _rotated(admins: Admins, profile: Profile, turns: Turns) -> list[str]:
    roles = [*_SHARED[:4]]

    def facts() -> oracle.Facts:
        found = oracle.as_application(turns.connect, DATABASES, roles)
        found |= oracle.by_catalog(admins[DATABASES[0]], turns.current.username)
        for database, admin in admins.items():
            found |= oracle.of_bystanders(admin, database, ("carol", "dave", *roles))
        return found

    before, chance = facts(), random.Random(profile.name)
    for turn in (1, 2, 3):
        new = turns.propose()
        again(lambda new=new: turns.create(new), chance)
        turns.verify(new)
        turns.publish(new)
        if unlike := oracle.unlike(before, facts()):
            return [f"rotation {turn}, before revoke: {one}" for one in unlike]
        again(turns.revoke, chance)
        if unlike := oracle.unlike(before, facts()):
            return [f"rotation {turn}, after revoke: {one}" for one in unlike]
    return []


def again(step: Callable[[], object], chance: random.Random) -> None:
    """Do a step; every second time its connection is cut before one of its statements first."""
    if chance.random() < _CUT:
        with suppress(RotatorError), cut_before(1 + int(chance.expovariate(1 / 12))):
            step()
    step()


@contextmanager
def cut_before(number: int) -> Generator[list[str]]:
    """Close the connection of the statement of that number instead of sending it; yield what came."""
    came: list[str] = []
    whole = psycopg.Cursor.execute

    def execute(cursor: psycopg.Cursor[Any], *given: Any, **more: Any) -> Any:
        came.append(str(given[0]))
        if len(came) == number:
            cursor.connection.close()
            raise psycopg.OperationalError("the connection was cut")
        return whole(cursor, *given, **more)

    with mock.patch.object(psycopg.Cursor, "execute", execute):
        yield came


def _clean(admins: Admins, profile: Profile) -> None:
    names = [
        row[0]
        for row in admins[DATABASES[0]].execute(
            "SELECT rolname FROM pg_roles WHERE rolname ~ %s", [f"^{profile.name}(_|$)"]
        )
    ]
    for database, text in profile.end:
        with suppress(Exception):
            admins[database].execute(text.encode())
    for admin in admins.values():
        for name in names:
            admin.execute(f'DROP OWNED BY "{name}" CASCADE'.encode())
    for name in names:
        admins[DATABASES[0]].execute(f'DROP ROLE "{name}"'.encode())
