"""How each pipeline became one worker and how long its requests waited, or why it has not."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consolidations", sa.Column("switch", JSONB, nullable=True))
    for name in ("pause_p50_ms", "pause_max_ms"):
        op.add_column("consolidations", sa.Column(name, sa.Double, nullable=True))
    op.add_column("endpoints", sa.Column("consolidation_obstacle", sa.String, nullable=True))


def downgrade() -> None:
    op.drop_column("endpoints", "consolidation_obstacle")
    for name in ("pause_max_ms", "pause_p50_ms", "switch"):
        op.drop_column("consolidations", name)
