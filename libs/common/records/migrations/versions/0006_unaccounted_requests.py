"""Finding the ended requests whose gateway never said what they generated."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_requests_unaccounted",
        "requests",
        ["ended_at"],
        postgresql_where=sa.text("state = 'ENDED' AND NOT is_accounted"),
    )


def downgrade() -> None:
    op.drop_index("ix_requests_unaccounted", table_name="requests")
