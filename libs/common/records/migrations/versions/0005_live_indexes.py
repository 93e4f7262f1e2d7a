"""Indexes that leave out what has ended: reading what lives must not grow with history."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_endpoints_failed",
        "endpoints",
        ["model_id", "ended_at"],
        postgresql_where=sa.text("state = 'FAILED'"),
    )
    op.create_index(
        "ix_workers_live",
        "workers",
        ["endpoint_id"],
        postgresql_where=sa.text("state NOT IN ('STOPPED', 'FAILED')"),
    )
    op.create_index("ix_cold_starts_endpoint_id", "cold_starts", ["endpoint_id"])
    op.create_index(
        "ix_cold_starts_request_id",
        "cold_starts",
        ["request_id"],
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_cold_starts_request_id", table_name="cold_starts")
    op.drop_index("ix_cold_starts_endpoint_id", table_name="cold_starts")
    op.drop_index("ix_workers_live", table_name="workers")
    op.drop_index("ix_endpoints_failed", table_name="endpoints")
