"""Events get a code that only a holder of the writers' key can make.

What was written before has none. The checkpoint that introduces the key covers it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("events", sa.Column("mac", sa.Text))
