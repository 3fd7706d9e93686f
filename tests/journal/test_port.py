"""What the engine relies on: leases that exclude each other, appends that are all or nothing."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from rotator.core.errors import Busy, JournalError, LockLost, UsageError
from rotator.core.model import Kind, NewEvent, Outcome, Step
from rotator.core.secret import Secret
from rotator.journal import audit, migrate, tables
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock
from rotator.testing.postgres import ScratchPostgres
from tests.journal.conftest import TTL, MakeJournal, rotate


def requested(name: str) -> NewEvent:
    return NewEvent(kind=Kind.REQUESTED, rotation_id=name, data={"plugin": "p"})


def test_a_lease_keeps_everybody_else_out(journal: SqlJournal):
    """Also a second thread of the same process, which calls itself otherwise."""
    journal.acquire("web", "one", TTL)
    with pytest.raises(Busy, match="holds its lock"):
        journal.acquire("web", "two", TTL)
    with pytest.raises(Busy, match="holds its lock"):
        journal.acquire("web", "one", TTL)


def test_a_lease_that_was_given_back_can_be_taken_under_a_higher_fence(journal: SqlJournal):
    """The fence only grows."""
    first = journal.acquire("web", "one", TTL)
    journal.release(first)
    journal.release(first)
    assert journal.acquire("web", "two", TTL).fence == first.fence + 1


def test_an_expired_lease_is_taken_over_and_its_holder_stopped(
    make_journal: MakeJournal, clock: ManualClock
):
    """The loser's append writes nothing, also when it is another process."""
    one, two = make_journal(), make_journal()
    lost = one.acquire("web", "one", TTL)
    one.append(lost, [requested("r1")], TTL)
    clock.advance(TTL + timedelta(seconds=1))
    held = two.acquire("web", "two", TTL)
    with pytest.raises(LockLost, match="taken over"):
        one.append(lost, [NewEvent(kind=Kind.STARTED, step=Step.STAGE, rotation_id="r1")], TTL)
    one.release(lost)
    two.append(held, [NewEvent(kind=Kind.STARTED, step=Step.STAGE, rotation_id="r1")], TTL)
    assert [event.fence for event in two.events("web")] == [1, 2]
    assert audit.verify(two).ok


def test_the_lease_of_a_dead_process_is_taken_over_at_once(make_journal: MakeJournal):
    """Nobody waits for a lock to expire whose holder is known to be gone."""
    dead = make_journal().acquire("web", "dead", TTL)
    other = make_journal(is_dead=lambda holder: holder == "dead")
    assert other.acquire("web", "alive", TTL).fence == dead.fence + 1


def test_an_append_renews_the_lease(journal: SqlJournal, clock: ManualClock):
    """An engine that goes on working keeps its secret."""
    lock = journal.acquire("web", "one", TTL)
    for _ in range(3):
        clock.advance(TTL * 0.9)
        journal.append(lock, [], TTL)
    with pytest.raises(Busy):
        journal.acquire("web", "two", TTL)


def test_what_was_written_is_read_back_the_same(make_journal: MakeJournal):
    """Another process reads the same events and folds as the one that wrote them."""
    one, two = make_journal(), make_journal()
    rotate(one, "web", 2)
    rotation = two.rotation("web-2")
    assert rotation is not None
    assert (rotation.outcome, rotation.old_refused) == (Outcome.DONE, True)
    assert (rotation.old_version, rotation.new_version, rotation.reason) == ("1", "2", "räson")
    secret = two.secret("web")
    assert secret is not None
    assert (secret.login, secret.version, secret.open_rotation, secret.seq) == (
        "web-2",
        "2",
        None,
        14,
    )
    assert [event.seq for event in two.history("web-2")] == list(range(1, 15))
    assert two.events("web", 3) == two.events("web")[-3:]
    assert two.rotations("web") == [rotation]
    assert [one.name for one in two.secrets()] == ["web"]


def test_only_one_rotation_of_a_secret_is_open(journal: SqlJournal):
    """A second one is refused by the database itself, and nothing of it is written."""
    lock = journal.acquire("web", "one", TTL)
    journal.append(lock, [requested("r1")], TTL)
    with pytest.raises(Busy, match="already open"):
        journal.append(lock, [requested("r2")], TTL)
    assert [event.rotation_id for event in journal.events("web")] == ["r1"]
    journal.append(
        lock, [NewEvent(kind=Kind.ENDED, rotation_id="r1", data={"outcome": "done"})], TTL
    )
    journal.append(lock, [requested("r2")], TTL)
    assert audit.verify(journal).ok


def test_an_unknown_secret_is_nothing(journal: SqlJournal):
    """Neither due nor open."""
    assert journal.secret("web") is None
    assert journal.open_rotation("web") is None
    assert journal.rotation("r") is None
    journal.release(journal.acquire("web", "one", TTL))
    assert journal.secret("web") is None


_RACE = """
import sys
from datetime import timedelta
from rotator import system
from rotator.core.errors import Busy
from rotator.core.secret import Secret
from rotator.journal.sql import SqlJournal
url, password = sys.argv[1], sys.stdin.readline().strip()
journal = SqlJournal(url, clock=system.SystemClock(), actor="race", is_dead=system.is_dead,
                     password=Secret(password) if password else None)
won = 0
for turn in range(60):
    try:
        lock = journal.acquire("web", system.holder(), timedelta(seconds=60))
    except Busy:
        continue
    won += 1
    seen = journal.secret("web")
    journal.append(lock, [], timedelta(seconds=60))
    journal.release(lock)
print(won)
"""


def test_processes_that_race_for_a_lease_take_turns(make_journal: MakeJournal):
    """Four processes, each fence given out once."""
    journal = make_journal()
    password = journal.url.password or ""
    url = journal.url.set(password=None).render_as_string()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    won = [int(child.communicate(f"{password}\n", timeout=60)[0]) for child in children]
    assert [child.returncode for child in children] == [0] * 4
    assert journal.acquire("web", "last", TTL).fence == sum(won) + 1


def test_a_database_of_a_newer_version_is_refused(make_journal: MakeJournal):
    """With a text that says what to do, and without touching it."""
    journal = make_journal()
    with journal.database.begin() as db:
        db.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for upgrade in (True, False):
        with pytest.raises(JournalError, match=r"newer rotator.*9999") as caught:
            make_journal(upgrade=upgrade)
        assert "pip install --upgrade" in str(caught.value)
    assert journal.revision() == "9999"


def test_a_database_that_is_not_set_up_says_how(make_journal: MakeJournal, tmp_path: Path):
    """PostgreSQL is not changed unasked; a fresh SQLite file is set up by itself."""
    journal = make_journal()
    with journal.database.begin() as db:
        tables.metadata.drop_all(db)
        db.execute(sa.text("DROP TABLE alembic_version"))
        if db.dialect.name != "sqlite":
            db.execute(sa.text("DROP FUNCTION rotator_append_only"))
    with pytest.raises(JournalError, match="rotator db upgrade"):
        make_journal(upgrade=False)
    assert make_journal().revision() == migrate.HEAD


def test_the_head_that_the_program_knows_is_the_newest_migration():
    """`migrate.HEAD` spares the import of Alembic, and must not go stale."""
    from alembic.script import ScriptDirectory

    folder = migrate.folder()
    script = ScriptDirectory(str(folder))
    assert script.get_current_head() == migrate.HEAD


def test_the_migrations_make_the_tables_that_the_program_uses(journal: SqlJournal):
    """Column by column, nullability included."""
    found = sa.MetaData()
    with journal.database.connect() as db:
        found.reflect(db)
    for table in tables.metadata.sorted_tables:
        made = found.tables[table.name]
        assert [(c.name, c.nullable) for c in made.columns] == [
            (c.name, c.nullable) for c in table.columns
        ]
        assert {one.name for one in table.indexes} <= {one.name for one in made.indexes}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://x@y/z", "SQLite or PostgreSQL"),
        ("sqlite://", "must be in a file"),
        ("nonsense", "not a database URL"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url: str, text: str, clock: ManualClock):
    """Before anything is opened."""
    with pytest.raises(UsageError, match=text):
        SqlJournal(url, clock=clock, actor="test")


def test_an_sqlite_journal_is_its_owners_alone(tmp_path: Path, clock: ManualClock):
    """The file, and what SQLite puts beside it."""
    journal = SqlJournal(f"sqlite:///{tmp_path}/j.db", clock=clock, actor="test")
    rotate(journal, "web", 2)
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o600"}
    journal.close()


def test_a_full_disk_stops_before_any_effect(tmp_path: Path, clock: ManualClock):
    """What cannot be written is said, and what was written before stays whole."""
    journal = SqlJournal(f"sqlite:///{tmp_path}/j.db", clock=clock, actor="test")
    rotate(journal, "web", 2)
    with journal.database.connect() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar_one()
        db.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    lock = journal.acquire("web", "one", TTL)
    big = NewEvent(kind=Kind.CHECKED, data={"detail": "x" * 100_000})
    with pytest.raises(JournalError, match="disk is full") as caught:
        journal.append(lock, [big], TTL)
    assert "makes no change without a journal" in str(caught.value)
    assert audit.verify(journal).ok
    journal.append(lock, [NewEvent(kind=Kind.CHECKED)], TTL)
    journal.close()


def test_a_server_that_is_away_or_refuses_is_told_apart(postgres, clock: ManualClock):
    """Neither text holds the password."""
    for url, password, text in [
        ("postgresql://postgres@127.0.0.1:1/x", "hunter2-canary", "is unreachable"),
        (
            f"postgresql://postgres@{postgres.host}:{postgres.port}/postgres",
            "hunter2-canary",
            "rejected rotator's login",
        ),
        (
            f"postgresql://postgres@{postgres.host}:{postgres.port}/nowhere",
            postgres.superuser_password,
            "does not exist",
        ),
    ]:
        with pytest.raises(JournalError, match=text) as caught:
            SqlJournal(url, clock=clock, actor="test", password=Secret(password))
        assert password not in str(caught.value)


def test_another_version_is_told_without_what_upgrades_too(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
):
    """The rotation function's zip holds neither Alembic nor the migrations."""
    journal = make_journal()
    with journal.writing() as db:
        db.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    monkeypatch.setitem(sys.modules, "alembic.script", None)
    with pytest.raises(JournalError, match=r"another version than this program \(9999; required:"):
        make_journal(upgrade=False)


@pytest.mark.parametrize("make_journal", ["postgresql"], indirect=True)
def test_a_process_that_is_frozen_keeps_one_connection_and_replaces_it_when_it_is_gone(
    make_journal: MakeJournal, postgres: ScratchPostgres
):
    """A rotation function is: what was cut off meanwhile does not fail its next step."""
    journal = make_journal(alone=True)
    sessions = f"SELECT pid FROM pg_stat_activity WHERE datname = '{journal.url.database}'"
    with postgres.connect() as admin:
        for name in ("web", "batch"):
            rotate(journal, name, 2)
            (found,) = admin.execute(sessions.encode()).fetchall()
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", found)
        assert admin.execute(sessions.encode()).fetchall() == []
    assert {one.name for one in journal.secrets()} == {"web", "batch"}
