"""Cold starts keep what was planned and considered, and models may ask for a least pipeline."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_FIGURES = ("predicted_ttft_ms", "measured_ttft_ms", "predicted_tpot_ms", "predicted_cost_byte_s")


def upgrade() -> None:
    op.add_column(
        "models",
        sa.Column("min_pipeline_size", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    )
    for name in _FIGURES:
        op.add_column("cold_starts", sa.Column(name, sa.Double, nullable=True))
    op.add_column("cold_starts", sa.Column("plans", JSONB, nullable=True))


def downgrade() -> None:
    op.drop_column("cold_starts", "plans")
    for name in reversed(_FIGURES):
        op.drop_column("cold_starts", name)
    op.drop_column("models", "min_pipeline_size")
