"""How late a model's first token is after a start, and for how long the model works then."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_activity", sa.Column("late_s", sa.Double, nullable=True))
    op.add_column("model_activity", sa.Column("busy_s", sa.Double, nullable=True))


def downgrade() -> None:
    op.drop_column("model_activity", "busy_s")
    op.drop_column("model_activity", "late_s")
