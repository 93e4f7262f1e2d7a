"""Consolidations of other workers than the entry, and attempts that are told apart."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_IS_OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    attempt = sa.Column("attempt", sa.BigInteger, nullable=False, server_default=sa.text("1"))
    op.add_column("consolidations", attempt)
    op.add_column(
        "consolidations",
        sa.Column("is_scale_up", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    _index_open("worker_id")


def downgrade() -> None:
    """Workers that are to be endpoints of their own stay stages, or end with their endpoint."""
    op.execute("DELETE FROM consolidations WHERE is_scale_up AND ended_at IS NULL")
    _index_open("endpoint_id")
    op.drop_column("consolidations", "is_scale_up")
    op.drop_column("consolidations", "attempt")


def _index_open(column: str) -> None:
    """There is at most one that is open."""
    op.drop_index("uq_consolidations_open", table_name="consolidations")
    op.create_index(
        "uq_consolidations_open",
        "consolidations",
        [column],
        unique=True,
        postgresql_where=_IS_OPEN,
    )
