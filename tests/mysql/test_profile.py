"""The new login equals the old one: a row for each kind of what makes an account what it is."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rotations.mysql.profile import KINDS
from rotator.api import Credential, Denied, Refused, Severity
from tests.mysql.oracle import differences
from tests.mysql.profiles import LoginFixture, try_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mysql.dialects import Dialect
    from tests.servers.mysql_like import MySqlLikeServer

_numbers = itertools.count(1)
BOTH = ("MariaDB", "MySQL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind. `{0}`: the account that has it. `other`: what the waiting login has instead."""

    kind: str
    has: tuple[str, ...]
    other: tuple[str, ...] = ()
    on: tuple[str, ...] = BOTH


MYSQL = ("MySQL",)
ROWS = (
    Row(
        kind="global privileges",
        has=("GRANT PROCESS, RELOAD ON *.* TO {0} WITH GRANT OPTION",),
        other=("GRANT FILE, SHOW DATABASES ON *.* TO {0}",),
    ),
    Row(kind="global privileges", has=("GRANT FILE ON *.* TO {0} WITH GRANT OPTION",)),
    Row(
        kind="dynamic privileges",
        has=(
            "GRANT CONNECTION_ADMIN ON *.* TO {0} WITH GRANT OPTION",
            "GRANT BACKUP_ADMIN ON *.* TO {0}",
        ),
        other=(
            "GRANT SYSTEM_VARIABLES_ADMIN, RELOAD, BACKUP_ADMIN ON *.* TO {0} WITH GRANT OPTION",
        ),
        on=MYSQL,
    ),
    Row(
        kind="dynamic privileges",
        has=("GRANT CONNECTION_ADMIN ON *.* TO {0} WITH GRANT OPTION",),
        other=("GRANT RELOAD ON *.* TO {0} WITH GRANT OPTION",),
        on=MYSQL,
    ),
    Row(
        kind="dynamic privileges",
        has=("GRANT PROCESS ON *.* TO {0}",),
        other=("GRANT BACKUP_ADMIN, CONNECTION_ADMIN ON *.* TO {0} WITH GRANT OPTION",),
        on=MYSQL,
    ),
    Row(
        kind="database privileges",
        has=(
            r"GRANT ALL ON `sh\_p`.* TO {0}",
            "GRANT SELECT ON store.* TO {0} WITH GRANT OPTION",
        ),
        other=(r"GRANT SELECT ON `sh\_p`.* TO {0}", "GRANT ALL ON store.* TO {0}"),
    ),
    Row(
        kind="table privileges",
        has=(
            "GRANT SELECT, INSERT ON store.orders TO {0}",
            # A table that is dropped and made anew keeps its rights meanwhile.
            "GRANT CREATE, DELETE ON store.gone TO {0}",
            "REVOKE CREATE ON store.gone FROM {0}",
        ),
        other=("GRANT ALL ON store.orders TO {0} WITH GRANT OPTION",),
    ),
    Row(
        kind="column privileges",
        has=("GRANT SELECT, SELECT (id), UPDATE (id, secret) ON store.orders TO {0}",),
        other=("GRANT SELECT, INSERT (id), SELECT (secret) ON store.orders TO {0}",),
    ),
    Row(
        kind="routine privileges",
        has=(
            "GRANT EXECUTE ON PROCEDURE store.proc TO {0} WITH GRANT OPTION",
            "GRANT ALTER ROUTINE ON FUNCTION store.func TO {0}",
        ),
        other=("GRANT EXECUTE, ALTER ROUTINE ON FUNCTION store.func TO {0}",),
    ),
    Row(
        # ALL PRIVILEGES hides them in SHOW GRANTS.
        kind="column privileges",
        has=("GRANT UPDATE (id) ON store.orders TO {0}", "GRANT ALL ON store.orders TO {0}"),
        other=("GRANT INSERT (id) ON store.orders TO {0}", "GRANT ALL ON store.orders TO {0}"),
    ),
    Row(kind="routine privileges", has=("GRANT EXECUTE ON LIBRARY store.lib TO {0}",), on=MYSQL),
    Row(
        kind="grant options",
        has=("GRANT USAGE ON other.* TO {0} WITH GRANT OPTION",),
        other=("GRANT USAGE ON store.* TO {0} WITH GRANT OPTION",),
    ),
    Row(
        kind="partial revokes",
        has=(
            "GRANT SELECT, INSERT ON *.* TO {0}",
            "REVOKE INSERT ON mysql.* FROM {0}",
        ),
        other=("GRANT SELECT ON *.* TO {0}", "REVOKE SELECT ON other.* FROM {0}"),
        on=MYSQL,
    ),
    Row(
        kind="partial revokes",
        has=(),
        other=("GRANT SELECT ON *.* TO {0}", "REVOKE SELECT ON mysql.* FROM {0}"),
        on=MYSQL,
    ),
    Row(
        kind="proxies",
        has=("GRANT PROXY ON carol@'%' TO {0} WITH GRANT OPTION",),
        other=("GRANT PROXY ON dave@'%' TO {0}", "GRANT PROXY ON carol@'%' TO {0}"),
    ),
    Row(
        kind="roles",
        has=("GRANT reader TO {0} WITH ADMIN OPTION", "GRANT writer TO {0}"),
        other=("GRANT writer TO {0} WITH ADMIN OPTION", "GRANT reader TO {0}"),
    ),
    Row(
        kind="default roles",
        has=("GRANT reader TO {0}", "GRANT writer TO {0}", "SET DEFAULT ROLE reader {for} {0}"),
        other=("GRANT writer TO {0}", "SET DEFAULT ROLE writer {for} {0}"),
    ),
    Row(
        kind="default roles",
        has=("GRANT reader TO {0}",),
        other=("GRANT reader TO {0}", "SET DEFAULT ROLE reader {for} {0}"),
    ),
    Row(
        kind="resource limits",
        has=("ALTER USER {0} WITH MAX_USER_CONNECTIONS 50 MAX_QUERIES_PER_HOUR 100000",),
        other=("ALTER USER {0} WITH MAX_UPDATES_PER_HOUR 7",),
    ),
    Row(
        kind="resource limits",
        has=("ALTER USER {0} WITH MAX_STATEMENT_TIME 1.5",),
        on=("MariaDB",),
    ),
    Row(
        kind="password expiry",
        has=("ALTER USER {0} PASSWORD EXPIRE INTERVAL 90 DAY",),
        other=("ALTER USER {0} PASSWORD EXPIRE NEVER",),
    ),
    Row(
        kind="password history",
        has=("ALTER USER {0} PASSWORD HISTORY 5",),
        other=("ALTER USER {0} PASSWORD HISTORY 0",),
        on=MYSQL,
    ),
    Row(
        kind="password reuse",
        has=("ALTER USER {0} PASSWORD REUSE INTERVAL 365 DAY",),
        other=("ALTER USER {0} PASSWORD REUSE INTERVAL 7 DAY",),
        on=MYSQL,
    ),
    Row(
        kind="current password",
        has=("ALTER USER {0} PASSWORD REQUIRE CURRENT",),
        other=("ALTER USER {0} PASSWORD REQUIRE CURRENT OPTIONAL",),
        on=MYSQL,
    ),
    Row(
        kind="lock after failures",
        has=("ALTER USER {0} FAILED_LOGIN_ATTEMPTS 9 PASSWORD_LOCK_TIME UNBOUNDED",),
        on=MYSQL,
    ),
    Row(
        kind="lock after failures",
        has=(),
        other=("ALTER USER {0} FAILED_LOGIN_ATTEMPTS 5 PASSWORD_LOCK_TIME 1",),
        on=MYSQL,
    ),
    Row(
        kind="comment and attributes",
        has=('ALTER USER {0} ATTRIBUTE \'{"team": {"name": "pay", "on call": [1, 2]}}\'',),
        other=(
            "ALTER USER {0} COMMENT 'not 100% this'",
            'ALTER USER {0} ATTRIBUTE \'{"team": {"name": "x", "old": true}}\'',
        ),
        on=MYSQL,
    ),
)
# Whom it locks out until TLS is there: tests/mysql/test_causes.py.
ELSEWHERE = {"TLS requirement"}


@pytest.fixture
def fixture(server: MySqlLikeServer, dialect: Dialect) -> Iterator[LoginFixture]:
    made = LoginFixture(server=server, dialect=dialect, name=f"prof{next(_numbers)}")
    made.run("CREATE USER {0} IDENTIFIED BY '{first}'")
    yield made
    made.end()


def test_every_kind_has_a_row():
    """What is added to the profile is tried here."""
    assert {one.kind for one in ROWS} | ELSEWHERE == {one.name for one in KINDS}
    page = (Path(__file__).parents[2] / "docs" / "reference" / "mysql.md").read_text()
    assert [one.name for one in KINDS if f"| {one.name}" not in page] == []


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users"])
@pytest.mark.parametrize("row", ROWS, ids=lambda one: one.kind)
def test_the_next_login_is_what_the_one_before_is(fixture: LoginFixture, row: Row, strategy: str):
    """Twice in a row, also where the waiting login was something else; after FLUSH PRIVILEGES too."""
    if fixture.dialect.product not in row.on:
        pytest.skip(f"{fixture.dialect.product} has no such thing")
    fixture.run(*row.has)
    if strategy == "alternating-users":
        fixture.run("CREATE USER {0} IDENTIFIED BY 'waiting'", *row.other, login=fixture.other)
    before = fixture.profile(fixture.name)
    served = fixture.current
    for _ in range(2):
        served = fixture.rotate(strategy, served)
        assert differences(fixture.profile(served.username), before) == []
        fixture.server.run("FLUSH PRIVILEGES")
        assert differences(fixture.profile(served.username), before) == []


# -- what depends on an account ----------------------------------------------------------------


def _minimal(fixture: LoginFixture, *more: str) -> None:
    """Let the plugin's admin be one with the rights that the documentation asks for, and more."""
    name = f"{fixture.name}_admin"
    ends = "CONNECTION_ADMIN" if fixture.dialect.product == "MySQL" else "CONNECTION ADMIN"
    fixture.run(
        "CREATE USER {0} IDENTIFIED BY '{first}'",
        f"GRANT CREATE USER, PROCESS, {ends} ON *.* TO {{0}}",
        "GRANT SELECT ON mysql.* TO {0}",
        "GRANT SELECT, INSERT ON store.* TO {0} WITH GRANT OPTION",
        *more,
        login=name,
    )
    fixture.admin = Credential(username=name, password=fixture.current.password)


SEES = {
    "MySQL": "GRANT SHOW_ROUTINE, SHOW VIEW, TRIGGER, EVENT ON *.* TO {0}",
    "MariaDB": "GRANT SHOW VIEW, TRIGGER, EVENT ON *.* TO {0}",
}


def test_a_login_whose_objects_the_admin_cannot_see_stays_locked(fixture: LoginFixture):
    """A view in a schema where the admin has nothing would break, and only its users would notice."""
    _minimal(fixture)
    schema = f"{fixture.name}_private"
    fixture.run(
        f"CREATE DATABASE {schema}",
        f"CREATE DEFINER={{0}} VIEW {schema}.v AS SELECT count(*) FROM store.orders",
        "GRANT SELECT ON store.* TO {0}",
    )
    _ = fixture.rotate("new-user", fixture.current)
    assert fixture.dialect.accounts(fixture.server, fixture.name)[fixture.name] is True
    assert "kept" in str(fixture.log.lines)
    assert fixture.server.run(f"SELECT * FROM {schema}.v")
    warnings = [one for one in fixture.examined("new-user") if one.severity is Severity.WARNING]
    assert any("SHOW VIEW, TRIGGER, EVENT ON *.* TO" in one.remedy for one in warnings), warnings


@pytest.mark.parametrize(
    "what",
    [
        "CREATE DEFINER={0} VIEW {schema}.v AS SELECT 1",
        "CREATE DEFINER={0} PROCEDURE {schema}.p() SELECT 1",
        "CREATE DEFINER={0} TRIGGER {schema}.t BEFORE INSERT ON {schema}.x FOR EACH ROW SET NEW.i = 1",
        "CREATE DEFINER={0} EVENT {schema}.e ON SCHEDULE EVERY 1 YEAR DO SELECT 1",
        "",
    ],
)
def test_an_admin_who_sees_all_objects_keeps_those_only_that_define_some(
    fixture: LoginFixture, what: str
):
    """With the rights that the documentation names, in a schema where it has nothing else."""
    _minimal(fixture, SEES[fixture.dialect.product])
    schema = f"{fixture.name}_private"
    made = (what.replace("{schema}", schema),) if what else ()
    fixture.run(f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.x (i int)", *made)
    _ = fixture.rotate("new-user", fixture.current)
    kept = fixture.dialect.accounts(fixture.server, fixture.name)
    assert kept.get(fixture.name) is (True if what else None)
    assert not [one for one in fixture.examined("new-user") if "cannot see" in one.message]


@pytest.mark.parametrize(
    "what", ["GRANT {0} TO bystander@'%'", "GRANT PROXY ON {0} TO bystander@'%'"]
)
def test_a_login_that_was_granted_to_others_stays_locked(fixture: LoginFixture, what: str):
    """As a role, or to act as: they keep what they have."""
    if what.startswith("GRANT {0}") and fixture.dialect.product == "MariaDB":
        pytest.skip("MariaDB grants roles only")
    fixture.run("GRANT SELECT ON store.* TO {0}", what)
    before = fixture.profile("bystander")
    _ = fixture.rotate("new-user", fixture.current)
    assert differences(fixture.profile("bystander"), before) == []
    assert fixture.dialect.accounts(fixture.server, fixture.name)[fixture.name] is True
    fixture.server.run("DROP USER bystander@'%'", "CREATE USER bystander@'%'")


# -- what cannot be carried --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a rotation refuses before it sends anything, and what it says."""

    name: str
    has: tuple[str, ...]
    says: str
    remedy: str
    strategy: str = "new-user"
    other: tuple[str, ...] = ()
    minimal: bool = False
    on: tuple[str, ...] = BOTH


NATIVE = "mysql_native_password USING PASSWORD('There-before-us-1')"
REFUSALS = (
    Refusal(
        name="a right that the admin may not give",
        has=("GRANT DELETE ON store.orders TO {0}",),
        says="lacks the right to grant the login's privileges: DELETE ON `store`.`orders`",
        remedy="GRANT DELETE ON `store`.`orders` TO `",
        minimal=True,
    ),
    Refusal(
        name="a role that the admin may not give",
        has=("GRANT reader TO {0}",),
        says="lacks the right to grant the login's privileges: `reader`",
        remedy="WITH ADMIN OPTION;",
        minimal=True,
    ),
    Refusal(
        name="a dynamic privilege",
        has=("GRANT BACKUP_ADMIN ON *.* TO {0}",),
        says="lacks the right to grant the login's privileges: BACKUP_ADMIN",
        remedy="GRANT BACKUP_ADMIN ON *.* TO `",
        minimal=True,
        on=MYSQL,
    ),
    Refusal(
        name="SYSTEM_USER",
        has=("GRANT SYSTEM_USER ON *.* TO {0}",),
        says="has SYSTEM_USER, but the admin",
        remedy="GRANT SYSTEM_USER ON *.* TO `",
        strategy="dual-password",
        minimal=True,
        on=MYSQL,
    ),
    Refusal(
        name="another way to log in",
        has=(f"ALTER USER {{0}} IDENTIFIED VIA {NATIVE} OR unix_socket",),
        says="also authenticates by unix_socket",
        remedy="dual-password",
        on=("MariaDB",),
    ),
    *(
        Refusal(
            name=f"a login that somebody has locked, {strategy}",
            has=("ALTER USER {0} ACCOUNT LOCK",),
            says="is locked, and the next one would let its clients in again",
            remedy="ACCOUNT UNLOCK",
            strategy=strategy,
        )
        for strategy in ("new-user", "alternating-users", "dual-password", "single-user")
    ),
    Refusal(
        name="an account of another host that is locked",
        has=(),
        other=("CREATE USER `{name}`@'10.%' IDENTIFIED BY 'x' ACCOUNT LOCK",),
        says="@'10.%' is locked",
        remedy="DROP USER `",
    ),
    Refusal(
        name="a waiting login for another host",
        has=(),
        other=("CREATE USER `{name}_b`@'10.%' IDENTIFIED BY 'x'",),
        says="has no counterpart",
        remedy="DROP USER `",
        strategy="alternating-users",
    ),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda one: one.name)
def test_what_cannot_be_carried_is_refused_everywhere_and_nothing_is_sent(
    fixture: LoginFixture, refusal: Refusal
):
    """By `create` before its first statement, by `plan`, and by `doctor`, with one text and one remedy."""
    if fixture.dialect.product not in refusal.on:
        pytest.skip(f"{fixture.dialect.product} has no such thing")
    fixture.run(*refusal.has)
    fixture.server.run("DO 1", *(one.replace("{name}", fixture.name) for one in refusal.other))
    if refusal.minimal:
        _minimal(fixture)
    rows = fixture.dialect.rows(fixture.server, fixture.name)
    rotation, ctx = (
        fixture.rotation(refusal.strategy),
        fixture.context(fixture.current),
    )
    with pytest.raises(Denied, match=re.escape(refusal.says)) as planned:
        rotation.explain(fixture.current, ctx)
    new = rotation.propose(fixture.current, ctx)
    with pytest.raises(Denied) as created:
        rotation.create(new, ctx)
    assert (created.value.what, created.value.hint) == (planned.value.what, planned.value.hint)
    assert refusal.remedy in created.value.hint
    assert fixture.dialect.rows(fixture.server, fixture.name) == rows
    errors = [one for one in fixture.examined(refusal.strategy) if one.severity is Severity.ERROR]
    assert any(refusal.says in one.message and refusal.remedy in one.remedy for one in errors)
    fixture.server.run(f"DROP USER IF EXISTS `{fixture.other}`@'10.%', `{fixture.name}`@'10.%'")


def test_a_login_that_was_locked_because_it_leaked_is_replaced(fixture: LoginFixture):
    """Once its password is invalid, nothing is opened again by another one."""
    rotation = fixture.rotation("new-user")
    ctx = replace(fixture.context(fixture.current), fenced=True)
    fixture.run("ALTER USER {0} ACCOUNT LOCK")
    new = rotation.propose(fixture.current, ctx)
    rotation.create(new, ctx)
    assert rotation.probe(new, ctx)
    rotation.withdraw(new, ctx)


def test_a_long_prefix_is_told_by_doctor(fixture: LoginFixture):
    """MySQL's names are shorter than MariaDB's."""
    if fixture.dialect.product == "MariaDB":
        pytest.skip("MariaDB takes 80 characters")
    rotation = fixture.rotation("new-user", prefix="p" * 21)
    found = rotation.examine(fixture.current, fixture.context(fixture.current))
    assert any("MySQL allows at most 32" in one.message for one in found)


@pytest.mark.parametrize(
    "more", ["GRANT FILE ON *.* TO {0}", "ALTER USER {0} WITH MAX_USER_CONNECTIONS 3"]
)
def test_verify_fails_on_what_is_too_much(fixture: LoginFixture, more: str):
    """As it does on what is missing: before publish."""
    rotation, ctx = fixture.rotation("new-user"), fixture.context(fixture.current)
    new = rotation.propose(fixture.current, ctx)
    rotation.create(new, ctx)
    fixture.run(more, login=new.username)
    with pytest.raises(Refused, match="too much"):
        rotation.verify(new, ctx)


# -- drawn at random ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(25))
def test_accounts_drawn_at_random_stay_what_they_are(server: MySqlLikeServer, seed: int):
    """By any two strategies; by all, 2,000 times and with TLS too: make profiles."""
    assert try_one(server, seed, 2) == []
