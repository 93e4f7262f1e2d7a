"""Whether a device computes bfloat16: models of that type are planned on no other."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "gpus",
        sa.Column("has_bfloat16", sa.Boolean, nullable=False, server_default=sa.text("true")),
    )


def downgrade() -> None:
    op.drop_column("gpus", "has_bfloat16")
