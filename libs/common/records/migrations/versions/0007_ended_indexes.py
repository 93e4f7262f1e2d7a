"""Indexes by which what ended long ago is found and deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_requests_ended", "requests", ["ended_at"], postgresql_where=sa.text("state = 'ENDED'")
    )
    op.create_index(
        "ix_endpoints_ended",
        "endpoints",
        ["ended_at"],
        postgresql_where=sa.text("state IN ('STOPPED', 'FAILED')"),
    )
    op.create_index(
        "ix_endpoints_parent_id",
        "endpoints",
        ["parent_id"],
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_endpoints_parent_id", table_name="endpoints")
    op.drop_index("ix_endpoints_ended", table_name="endpoints")
    op.drop_index("ix_requests_ended", table_name="requests")
