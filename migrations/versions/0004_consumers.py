"""Instances of consumers report which version they use.

The table is beside the chain: rows are rewritten freely, and no `audit verify` depends on them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "consumers",
        sa.Column("secret", sa.Text, primary_key=True),
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
    )
