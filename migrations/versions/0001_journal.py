"""The first journal: events, secrets, rotations, checkpoints, and the triggers that keep them.

Written out in full rather than taken from `rotator.journal.tables`, which will change.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_APPEND_ONLY = ("events", "checkpoints")
_REFUSAL = "the audit journal is append-only"


def upgrade() -> None:
    """Make the tables and the triggers."""
    op.create_table(
        "events",
        sa.Column("secret", sa.Text, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("rotation_id", sa.Text),
        sa.Column("step", sa.Text),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    op.create_index("events_of_a_rotation", "events", ["rotation_id"])
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Text),
        sa.Column("login", sa.Text),
        sa.Column("adopted", sa.Text, nullable=False),
        sa.Column("parked", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("rotated_at", sa.Text),
        sa.Column("next_due", sa.Text),
        sa.Column("since", sa.Text),
        sa.Column("timing", sa.Text),
        sa.Column("last_outcome", sa.Text),
        sa.Column("open_rotation", sa.Text),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("head", sa.Text, nullable=False),
        sa.Column("lease_holder", sa.Text),
        sa.Column("lease_fence", sa.Integer, nullable=False),
        sa.Column("lease_expires", sa.Text),
        sa.Column("seal", sa.Text, nullable=False),
    )
    idle = sa.text("parked IS NULL AND open_rotation IS NULL")
    op.create_index(
        "secrets_due", "secrets", ["next_due"], sqlite_where=idle, postgresql_where=idle
    )
    working = sa.text("open_rotation IS NOT NULL")
    op.create_index(
        "secrets_open", "secrets", ["open_rotation"], sqlite_where=working, postgresql_where=working
    )
    op.create_table(
        "rotations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("plugin", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("old_version", sa.Text),
        sa.Column("old_login", sa.Text),
        sa.Column("new_version", sa.Text),
        sa.Column("new_login", sa.Text),
        sa.Column("published_at", sa.Text),
        sa.Column("old_refused", sa.Integer),
        sa.Column("ended_at", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("seal", sa.Text, nullable=False),
    )
    op.create_index("rotations_of_a_secret", "rotations", ["secret", "started_at"])
    op.create_index(
        "one_open_rotation_a_secret",
        "rotations",
        ["secret"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("heads", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_triggers()
    else:
        _postgresql_triggers()


def _sqlite_triggers() -> None:
    for table in _APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )


def _postgresql_triggers() -> None:
    op.execute(
        "CREATE FUNCTION rotator_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION rotator_append_only()"
        )
