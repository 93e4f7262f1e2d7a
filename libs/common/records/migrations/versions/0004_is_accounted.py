"""Requests that are counted in `usage`, whoever ended them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default first says what holds of rows that ended already, so that they are not rewritten.
    op.add_column(
        "requests",
        sa.Column("is_accounted", sa.Boolean(), server_default=sa.text("true"), nullable=False),
    )
    op.alter_column("requests", "is_accounted", server_default=sa.text("false"))
    op.execute("UPDATE requests SET is_accounted = false WHERE state <> 'ENDED'")


def downgrade() -> None:
    op.drop_column("requests", "is_accounted")
