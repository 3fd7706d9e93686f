"""Secrets of which a password has leaked are found without a look at all the others."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    where = sa.text("details LIKE '%\"incident\":%'")
    op.create_index(
        "secrets_in_incident", "secrets", ["name"], sqlite_where=where, postgresql_where=where
    )
