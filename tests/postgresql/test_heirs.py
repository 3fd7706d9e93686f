"""What others have through a login, and what the server runs as it, outlives its rotation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from rotator.api import Denied, InUse
from rotator.testing.postgres import ScratchPostgres
from tests.postgresql.bare_rotations import FIRST, Turns

# Both kinds of hash log in by it.
_HBA = ("host all all 127.0.0.1/32 md5",)


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    settings = {"wal_level": "logical", "max_worker_processes": "20"}
    with ScratchPostgres(settings=settings, hba=_HBA) as made:
        yield made


def wait_until(true: Callable[[], Any]) -> None:
    """Wait for what the server does on its own."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_an_owner_login_with_everything_is_rotated_and_nobody_notices(server: ScratchPostgres):
    """The README's path: its application, its members and its subscription go on."""
    with server.connect() as admin:
        for statement in (
            "CREATE DATABASE source",
            "CREATE ROLE shop LOGIN PASSWORD 'there-before-us' CONNECTION LIMIT 20 VALID UNTIL '2099-01-01'",
            "CREATE DATABASE shop OWNER shop",
            "ALTER ROLE shop IN DATABASE shop SET search_path TO sales, public",
            "ALTER ROLE shop SET statement_timeout TO '30s'",
            "GRANT pg_create_subscription TO shop",
            "CREATE ROLE carol LOGIN PASSWORD 'c' IN ROLE shop",
        ):
            admin.execute(statement.encode())
    dsn = f"host={server.host} port={server.port} dbname=source user=postgres password={server.superuser_password}"
    with server.connect("source") as source:
        source.execute("CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY)")
        source.execute("INSERT INTO sales.orders VALUES (1); CREATE PUBLICATION p FOR ALL TABLES")
    with server.connect("shop", "shop", FIRST) as owner:
        owner.execute("CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY)")
        owner.execute("ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY")
        owner.execute("CREATE POLICY own ON sales.orders TO shop USING (true)")
    with server.connect("source") as source:
        source.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    with server.connect("shop") as admin:
        admin.execute(
            f"CREATE SUBSCRIPTION s CONNECTION '{dsn}' PUBLICATION p WITH (create_slot = false)".encode()
        )
        admin.execute("ALTER SUBSCRIPTION s OWNER TO shop")

    def rows() -> int:
        with server.connect("shop") as admin:
            return len(admin.execute("SELECT FROM sales.orders").fetchall())

    wait_until(lambda: rows() == 1)
    question = "SELECT current_user, current_setting('search_path'), current_setting('statement_timeout'), count(*) FROM orders"
    turns = Turns(server, "new-user", "shop", dbname="shop", group="shop")
    try:
        with turns.connect() as before:
            answer = before.execute(question.encode()).fetchall()
            turns.rotate(revoke=False)
            with pytest.raises(InUse) as held:
                turns.revoke(end_sessions=False)
            assert len(held.value.sessions) == 1, "the apply worker is no session"
            assert before.execute(question.encode()).fetchall() == answer
        wait_until(lambda: not turns.rotation.sessions("shop", turns.ctx()))
        turns.revoke(end_sessions=False)
        assert turns.ask(question) == answer
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            server.connect("shop", "shop", FIRST).close()
        with server.connect("source") as source:
            source.execute("INSERT INTO sales.orders VALUES (2)")
        wait_until(lambda: rows() == 2)
        turns.rotate()
        assert turns.ask(question) == [(*answer[0][:3], 2)]
        with server.connect("shop", "carol", "c") as carol:
            carol.execute("DELETE FROM sales.orders WHERE id = 2")
    finally:
        turns.close()
        with server.connect("shop") as admin:
            admin.execute("DROP SUBSCRIPTION s")


@pytest.fixture
def wiki(server: ScratchPostgres) -> Iterator[Turns]:
    """Return a login `wiki` that is not the group, with a table."""
    with server.connect() as admin:
        admin.execute("CREATE ROLE wiki_owner; CREATE ROLE bob; CREATE ROLE team")
        admin.execute("CREATE ROLE wiki LOGIN PASSWORD 'there-before-us' IN ROLE wiki_owner")
        admin.execute("CREATE TABLE pages (id int); GRANT SELECT, UPDATE ON pages TO wiki_owner")
    made = Turns(server, "new-user", "wiki", dbname="postgres", group="wiki_owner")
    yield made
    made.close()
    with server.connect() as admin:
        admin.execute("DROP TABLE pages")
        names = "bob, team, wiki_owner"
        left = admin.execute(
            "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname ~ '^wiki($|_owner_r)'"
        )
        admin.execute(f"DROP OWNED BY {names}; DROP ROLE {names}".encode())
        for (name,) in left.fetchall():
            admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def ask(server: ScratchPostgres, query: str) -> list[tuple]:
    with server.connect() as admin:
        return admin.execute(query.encode()).fetchall()


def test_members_of_a_dropped_login_keep_what_they_had(wiki: Turns, server: ScratchPostgres):
    """B12: `bob` could read through `wiki`, and still can when that is gone."""
    with server.connect() as admin:
        admin.execute("GRANT wiki TO bob WITH ADMIN OPTION")
    for _ in range(3):
        wiki.rotate()
        assert ask(server, "SELECT has_table_privilege('bob', 'pages', 'SELECT')") == [(True,)]
    assert ask(server, "SELECT count(*) FROM pg_auth_members WHERE member = 'bob'::regrole") == [
        (1,)
    ]


def test_what_a_login_granted_to_others_outlives_it(wiki: Turns, server: ScratchPostgres):
    """DROP OWNED would take it from them: a table, and a membership."""
    with server.connect() as admin:
        admin.execute(
            "GRANT DELETE ON pages TO wiki WITH GRANT OPTION; GRANT team TO wiki WITH ADMIN OPTION"
        )
        admin.execute(
            "SET SESSION AUTHORIZATION wiki; GRANT DELETE ON pages TO bob; GRANT team TO bob"
        )
    wiki.rotate()
    assert ask(
        server,
        "SELECT has_table_privilege('bob', 'pages', 'DELETE'), pg_has_role('bob', 'team', 'MEMBER')",
    ) == [(True, True)]


def test_the_group_of_the_served_login_is_kept_when_the_file_names_another(
    server: ScratchPostgres,
):
    """Changed in the grace period: it would have been dropped as an old login."""
    with server.connect() as admin:
        admin.execute("CREATE ROLE till LOGIN PASSWORD 'there-before-us'; CREATE ROLE till_other")
        admin.execute("CREATE TABLE sales_of_till (id int); GRANT SELECT ON sales_of_till TO till")
    begun = Turns(server, "new-user", "till", dbname="postgres", group="till")
    begun.rotate(revoke=False)
    served = begun.current
    later = Turns(
        server, "new-user", served.username, dbname="postgres", group="till_other",
        password=served.password.reveal(), adopted=frozenset({"till"}),
    )  # fmt: skip
    later.before = begun.before
    later.revoke()
    assert later.ask("SELECT current_user, count(*) FROM sales_of_till") == [("till", 0)]
    assert ask(server, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'till'") == [(False,)]
    begun.close()
    later.close()


def test_a_policy_made_in_the_grace_period_outlives_the_login(wiki: Turns, server: ScratchPostgres):
    """DROP OWNED drops a policy that names the dropped login alone (B02)."""
    wiki.rotate(revoke=False)
    with server.connect() as admin:
        admin.execute("CREATE POLICY late ON pages TO wiki USING (true)")
    wiki.revoke()
    assert ask(
        server, "SELECT polroles::regrole[]::text FROM pg_policy WHERE polname = 'late'"
    ) == [(f"{{{wiki.current.username}}}",)]


@pytest.mark.parametrize("strategy", ["new-user", "alternating-users", "single-user"])
def test_the_kind_of_hash_is_kept_unless_the_option_says_otherwise(
    server: ScratchPostgres, strategy: str
):
    """B07: a driver that speaks md5 only logs in after each rotation; a change is announced."""
    login = f"old_{strategy[:3]}"
    with server.connect() as admin:
        admin.execute("SET password_encryption = 'md5'; SET client_min_messages = error")
        admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{FIRST}'".encode())
    options: dict[str, Any] = {
        "new-user": {"group": login},
        "alternating-users": {"users": (login, f"{login}_b")},
        "single-user": {"username": login},
    }[strategy]

    def as_old_driver(turns: Turns) -> None:
        psycopg.connect(
            **server.dsn("postgres", turns.current.username, turns.current.password.reveal()),
            require_auth="md5",
        ).close()

    turns = Turns(server, strategy, login, dbname="postgres", **options)
    as_old_driver(turns)
    for _ in range(2):
        turns.rotate()
        as_old_driver(turns)
    assert not any("hash" in one.message or "keeps" in one.message for one in turns.examine())
    turns.close()
    newer = Turns(
        server, strategy, turns.current.username, dbname="postgres",
        password=turns.current.password.reveal(), adopted=frozenset({login, f"{login}_b"}),
        password_encryption="scram-sha-256", **options,
    )  # fmt: skip
    assert any("current password as md5" in one.text for one in newer.explain())
    assert any("current password as md5" in one.message for one in newer.examine())
    newer.rotate()
    with pytest.raises(psycopg.OperationalError, match="SASL"):
        as_old_driver(newer)
    newer.close()


def test_each_password_expires_after_valid_days(server: ScratchPostgres):
    """Also that of a login that has expired already (B20)."""
    with server.connect() as admin:
        admin.execute("CREATE ROLE brief LOGIN PASSWORD 'there-before-us' VALID UNTIL '2020-01-01'")
    turns = Turns(
        server, "single-user", "brief", dbname="postgres", username="brief", valid_days=30
    )
    turns.rotate()
    assert ask(
        server,
        "SELECT rolvaliduntil - now() BETWEEN '29 days' AND '30 days' FROM pg_roles WHERE rolname = 'brief'",
    ) == [(True,)]
    turns.close()


def test_a_job_of_pg_cron_goes_on(server: ScratchPostgres):
    """The extension runs it as the login, so that keeps LOGIN and loses its password."""
    with server.connect() as admin:
        admin.execute("CREATE ROLE timed LOGIN PASSWORD 'there-before-us'")
        admin.execute("CREATE SCHEMA cron; CREATE TABLE cron.job (jobid int, username text)")
        admin.execute("INSERT INTO cron.job VALUES (1, 'timed')")
    turns = Turns(server, "new-user", "timed", dbname="postgres", group="timed")
    turns.rotate()
    with server.connect() as admin:
        admin.execute("DROP SCHEMA cron CASCADE")
    assert ask(
        server, "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = 'timed'"
    ) == [(True, None)]
    turns.close()


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        (("host all gate 127.0.0.1/32 scram-sha-256",), True),
        (("host all +gate 127.0.0.1/32 scram-sha-256",), False),
        (("host all gate 127.0.0.1/32 md5", "host all all 127.0.0.1/32 md5"), False),
        (("host all gate 10.0.0.0/8 md5", "host all all 127.0.0.1/32 md5"), True),
        (("host all gate 127.0.0.1/32 trust", "host all all 127.0.0.1/32 md5"), True),
        (("host all /^gate 127.0.0.1/32 scram-sha-256",), False),
    ],
)
def test_a_line_of_pg_hba_for_the_login_alone_is_refused(
    server: ScratchPostgres, lines: tuple[str, ...], *, refused: bool
):
    """Unless another line treats the next login alike; the line is named."""
    file = server.folder / "data" / "pg_hba.conf"
    with server.connect() as admin:
        if not admin.execute("SELECT FROM pg_roles WHERE rolname = 'gate'").fetchall():
            admin.execute("CREATE ROLE gate LOGIN PASSWORD 'there-before-us'")
    before = file.read_text()
    file.write_text("\n".join(["host all postgres 127.0.0.1/32 md5", *lines]) + "\n")
    turns = Turns(server, "new-user", "gate", dbname="postgres", group="gate")
    try:
        ask(server, "SELECT pg_reload_conf()")
        if refused:
            with pytest.raises(Denied) as raised:
                turns.create()
            assert "line 2 of pg_hba.conf" in raised.value.what
            assert "+gate" in raised.value.hint
        else:
            turns.withdraw(turns.create())
    finally:
        file.write_text(before)
        ask(server, "SELECT pg_reload_conf()")
        turns.close()
