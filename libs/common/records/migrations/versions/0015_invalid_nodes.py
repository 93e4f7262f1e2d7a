"""What is wrong with a node's heartbeats, while they are not taken in."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("agent_invalid", sa.String, nullable=True))
    op.add_column("nodes", sa.Column("fetcher_invalid", sa.String, nullable=True))


def downgrade() -> None:
    op.drop_column("nodes", "fetcher_invalid")
    op.drop_column("nodes", "agent_invalid")
