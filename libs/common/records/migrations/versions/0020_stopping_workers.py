"""An index by which a node's workers are found that shall stop and have not been seen to."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_workers_stopping",
        "workers",
        ["node_id"],
        postgresql_where=sa.text("NOT is_desired AND ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_workers_stopping", table_name="workers")
