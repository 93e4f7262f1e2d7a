"""What a node's host cache may hold once others have left its file system."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("cache_max_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("nodes", "cache_max_bytes")
