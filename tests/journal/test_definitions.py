"""`audit verify` looks at the tables, triggers, rules and rights of the database itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from rotator.core.secret import Secret
from rotator.journal import audit, chain, definitions
from rotator.journal.checkpoints import checkpoint
from rotator.journal.report import AuditReport
from rotator.journal.sql import SqlJournal
from rotator.journal.worklist import SqlWorklist
from rotator.testing.fakes import ManualClock
from rotator.testing.postgres import ScratchPostgres
from tests.journal.conftest import NOW, ask, rotate
from tests.journal.test_handovers import Store, ask_engine

_RIGHTS = Path(__file__).parents[2] / "deploy" / "postgresql" / "journal-role.sql"

# What somebody does to the database, and the place that a finding names.
_ON_SQLITE = {
    "a trigger is dropped": ("DROP TRIGGER events_no_delete", "trigger events_no_delete"),
    "a trigger does nothing": (
        (
            "DROP TRIGGER checkpoints_no_update; CREATE TRIGGER checkpoints_no_update BEFORE UPDATE"
            " ON checkpoints BEGIN SELECT 1; END"
        ),
        "trigger checkpoints_no_update",
    ),
    "a trigger is added": (
        "CREATE TRIGGER extra AFTER INSERT ON events BEGIN SELECT 1; END",
        "trigger extra",
    ),
    "a trigger is added elsewhere": (
        "CREATE TRIGGER extra AFTER UPDATE ON secrets BEGIN SELECT 1; END",
        "trigger extra",
    ),
    "a column is added": (
        "ALTER TABLE events ADD COLUMN note TEXT",
        "table events, column note",
    ),
    "a column is renamed": (
        "ALTER TABLE rotations RENAME COLUMN reason TO why",
        "table rotations, column reason",
    ),
    "the index of open rotations is dropped": (
        "DROP INDEX one_open_rotation_a_secret",
        "index one_open_rotation_a_secret",
    ),
}
_ON_POSTGRESQL = {
    "a trigger is dropped": (
        "DROP TRIGGER events_append_only ON events",
        "trigger events_append_only",
    ),
    "a trigger is disabled": (
        "ALTER TABLE checkpoints DISABLE TRIGGER checkpoints_append_only",
        "trigger checkpoints_append_only",
    ),
    "a trigger is for replicas only": (
        "ALTER TABLE events ENABLE REPLICA TRIGGER events_append_only",
        "trigger events_append_only",
    ),
    "a trigger refuses less": (
        (
            "DROP TRIGGER events_append_only ON events; CREATE TRIGGER events_append_only BEFORE UPDATE"
            " ON events FOR EACH STATEMENT EXECUTE FUNCTION rotator_append_only()"
        ),
        "trigger events_append_only",
    ),
    "a trigger's function does nothing": (
        (
            "CREATE OR REPLACE FUNCTION rotator_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RETURN NULL; END $$"
        ),
        "trigger checkpoints_append_only",
    ),
    "a trigger is added": (
        (
            "CREATE FUNCTION extra() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
            " CREATE TRIGGER extra BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION extra()"
        ),
        "trigger extra",
    ),
    "a rule is added": (
        "CREATE RULE extra AS ON INSERT TO events DO INSTEAD NOTHING",
        "rule extra",
    ),
    "rows are hidden": (
        "ALTER TABLE secrets ENABLE ROW LEVEL SECURITY",
        "table secrets",
    ),
    "a role may change events": ("GRANT UPDATE ON events TO PUBLIC", "table events"),
    "a role may change a column": (
        "GRANT UPDATE (hash) ON checkpoints TO PUBLIC",
        "table checkpoints",
    ),
    "a column is added": (
        "ALTER TABLE events ADD COLUMN note text",
        "table events, column note",
    ),
    "a column has another type": (
        "ALTER TABLE rotations ALTER COLUMN reason TYPE varchar(9)",
        "table rotations, column reason",
    ),
    "a column may be empty": (
        "ALTER TABLE secrets ALTER COLUMN seal DROP NOT NULL",
        "table secrets, column seal",
    ),
    "a primary key is dropped": (
        "ALTER TABLE rotations DROP CONSTRAINT rotations_pkey",
        "table rotations",
    ),
    "the index of open rotations is dropped": (
        "DROP INDEX one_open_rotation_a_secret",
        "index one_open_rotation_a_secret",
    ),
    "the database turns triggers off": (
        (
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET session_replication_role = replica',"
            " current_database()); END $$"
        ),
        "setting of ",
    ),
}


@pytest.fixture(scope="module")
def limited(postgres: ScratchPostgres) -> Iterator[SqlJournal]:
    """A journal whose login has the rights of deploy/postgresql and owns nothing."""
    password = "for-a-scratch-server-only"  # of a server that ends with the test
    with postgres.connect() as admin:
        admin.execute(f"CREATE ROLE rotator LOGIN PASSWORD '{password}'")
        admin.execute("CREATE DATABASE insert_only")
    where = f"{postgres.host}:{postgres.port}/insert_only"
    clock = ManualClock()
    owner = SqlJournal(
        f"postgresql://postgres@{where}",
        clock=clock,
        actor="owner",
        password=Secret(postgres.superuser_password),
        upgrade=True,
    )
    with owner.database.begin() as db:
        db.exec_driver_sql(_RIGHTS.read_text().replace("%", "%%"))
    owner.close()
    journal = SqlJournal(
        f"postgresql://rotator@{where}", clock=clock, actor="test", password=Secret(password)
    )
    yield journal
    journal.close()
    with postgres.connect() as admin:
        admin.execute("DROP DATABASE insert_only")
        admin.execute("DROP ROLE rotator")


_REFUSED = (
    "UPDATE events SET actor = 'x'",
    "DELETE FROM events",
    "TRUNCATE events",
    "UPDATE checkpoints SET at = 'x'",
    "DELETE FROM checkpoints",
    "DELETE FROM secrets",
    "DELETE FROM rotations",
    "DROP TRIGGER events_append_only ON events",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
    (
        "CREATE OR REPLACE FUNCTION rotator_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$"
    ),
    "DROP TABLE observations",
    "UPDATE alembic_version SET version_num = '0001'",
)


def test_the_documented_login_may_add_and_change_nothing(limited: SqlJournal):
    """It is refused for want of a right, before any trigger is asked."""
    rotate(limited, "other", 1)
    for statement in _REFUSED:
        with (
            pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"),
            limited.database.begin() as db,
        ):
            db.exec_driver_sql(statement)


def test_the_documented_login_suffices(limited: SqlJournal, signing_key: Secret):
    """Leases, rotations, checkpoints, observations and the whole audit."""
    rotate(limited, "web", 1)
    assert checkpoint(limited, signing_key, NOW) is not None
    rotate(limited, "web", 2)
    assert checkpoint(limited, signing_key, NOW) is not None
    assert SqlWorklist(limited).counts(NOW, NOW).known >= 1
    report = audit.verify(limited, public_key=chain.public_key(signing_key))
    assert report.damage == []
    with limited.reading() as db:
        assert not definitions.owns(db)
    store = Store(ring=signing_key, old=signing_key)
    limited._find_key = store.key
    limited.authenticate()
    ask(limited, store.ring, "first")
    store.rotate(limited)
    rotate(limited, "web", 3)
    ask_engine(limited, store, "second")
    assert store.verify(limited).damage == []


def _after(journal: SqlJournal, statements: str) -> list[str]:
    """Return the places that are found after the statements, which are then undone."""
    report = AuditReport()
    with journal.database.connect() as db:
        if db.dialect.name == "sqlite":
            db.exec_driver_sql("BEGIN IMMEDIATE")
            # A trigger's body has semicolons of its own.
            for one in statements.split("; CREATE "):
                text = one if one.startswith(statements[:5]) else f"CREATE {one}"
                db.exec_driver_sql(text)
        else:
            db.execute(sa.text(statements.replace("%%", "%")))
        definitions.check(db, report)
        db.rollback()
    return [one.where for one in report.damage]


def test_a_new_journal_is_defined_as_it_must_be(journal: SqlJournal):
    """So that the tests below can fail."""
    rotate(journal, "web", 1)
    assert audit.verify(journal).damage == []
    with journal.reading() as db:
        assert definitions.owns(db)


def test_every_changed_definition_is_found(journal: SqlJournal):
    """Each is made alone, and its place is named."""
    on_sqlite = journal.url.get_backend_name() == "sqlite"
    missed = []
    for name, (statements, place) in (_ON_SQLITE if on_sqlite else _ON_POSTGRESQL).items():
        found = _after(journal, statements)
        if not any(one.startswith(place) for one in found):
            missed.append((name, found))
    assert missed == []
    assert _after(journal, "SELECT 1") == []
