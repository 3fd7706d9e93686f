"""Leaked passwords, and the secrets in an incident, are found without a look at all the others."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    where = sa.text("details LIKE '%\"incident\":%'")
    op.create_index(
        "secrets_in_incident", "secrets", ["name"], sqlite_where=where, postgresql_where=where
    )
    where = sa.text("kind = 'leaked' AND rotation_id IS NULL")
    op.create_index("events_of_leaks", "events", ["at"], sqlite_where=where, postgresql_where=where)
