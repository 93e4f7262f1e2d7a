"""An index of ended endpoints alone: what lives is found by another one, whatever has ended."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_endpoints_tenant_created_at", table_name="endpoints")
    op.create_index(
        "ix_endpoints_history",
        "endpoints",
        ["tenant", "created_at"],
        postgresql_where=sa.text("state IN ('STOPPED', 'FAILED')"),
    )


def downgrade() -> None:
    op.drop_index("ix_endpoints_history", table_name="endpoints")
    op.create_index("ix_endpoints_tenant_created_at", "endpoints", ["tenant", "created_at"])
