"""Objects of the store whose bytes are not what their names say."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "damaged_objects",
        sa.Column("key", sa.String, nullable=False),
        sa.Column("found_by", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=True),
        sa.Column(
            "found_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.Column("is_handled", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("is_whole", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.PrimaryKeyConstraint("key", name="pk_damaged_objects"),
    )


def downgrade() -> None:
    op.drop_table("damaged_objects")
