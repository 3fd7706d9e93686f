"""Further facts of a secret, folded from its events, and the observations that lie beside the chain.

Rows written before hold none of these facts: each secret's events are folded anew. A row whose seal
is broken stays broken, so that `audit verify` still finds it.
"""

import sqlalchemy as sa
from alembic import op

from rotator.journal.refold import refold

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table, and fill the column."""
    op.add_column("secrets", sa.Column("details", sa.Text))
    op.create_table(
        "observations",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("until", sa.Text),
        sa.Column("data", sa.Text, nullable=False),
    )
    refold(op.get_bind())
