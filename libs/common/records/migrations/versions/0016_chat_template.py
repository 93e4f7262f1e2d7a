"""Chat templates that are given to models, whatever their checkpoints have."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("chat_template", "chat_template_digest"):
        op.add_column("models", sa.Column(name, sa.String, nullable=True))


def downgrade() -> None:
    for name in ("chat_template_digest", "chat_template"):
        op.drop_column("models", name)
