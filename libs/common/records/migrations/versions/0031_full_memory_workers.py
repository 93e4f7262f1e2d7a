"""Models may say how many workers of a pipeline get memory for the whole model."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("full_memory_workers", sa.BigInteger, nullable=True))


def downgrade() -> None:
    op.drop_column("models", "full_memory_workers")
