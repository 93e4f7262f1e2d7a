"""Causes as kinds with facts, beside the words; the worker that an end began with, by its id."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLES = ("endpoints", "workers", "cold_starts")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("cause_kind", sa.String, nullable=True))
        op.add_column(table, sa.Column("cause_facts", postgresql.JSONB, nullable=True))
    op.add_column("endpoints", sa.Column("guilty_worker_id", sa.String, nullable=True))
    # Until now both had the same text.
    op.execute(
        """
        UPDATE endpoints SET guilty_worker_id = workers.id FROM workers
        WHERE workers.endpoint_id = endpoints.id AND endpoints.state = 'FAILED'
            AND workers.cause = endpoints.cause
        """
    )


def downgrade() -> None:
    op.drop_column("endpoints", "guilty_worker_id")
    for table in _TABLES:
        op.drop_column(table, "cause_facts")
        op.drop_column(table, "cause_kind")
