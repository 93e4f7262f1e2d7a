"""By how much a model's first token is late after a start, from which its keep-alive follows."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_activity", sa.Column("late_s", sa.Double, nullable=True))


def downgrade() -> None:
    op.drop_column("model_activity", "late_s")
