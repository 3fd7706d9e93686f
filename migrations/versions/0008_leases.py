"""Leases: short-lived logins, each for one holder. A fold over their events."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_OPEN = sa.text("next_at IS NOT NULL")


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "leases",
        sa.Column("id", sa.Text, primary_key=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("secret", "target", "state", "holder", "purpose")
        ),
        sa.Column("login", sa.Text),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("requested_at", "begun_at", "ends_at", "latest", "instances")
        ),
        sa.Column("next_at", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("problem", "hint", "outcome", "ended_at")),
        sa.Column("seal", sa.Text, nullable=False),
    )
    for name, column in (("leases_to_do", "next_at"), ("leases_open", "secret")):
        op.create_index(name, "leases", [column], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("leases_by_time", "leases", ["requested_at"])
