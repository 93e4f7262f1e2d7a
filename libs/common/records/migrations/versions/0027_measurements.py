"""What was measured of nodes, models and the cluster, so that a new leader predicts with it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    nobody = sa.text("''")
    op.create_table(
        "measurements",
        sa.Column("model_id", sa.String, nullable=False, server_default=nobody),
        sa.Column("node_id", sa.String, nullable=False, server_default=nobody),
        sa.Column("quantity", sa.String, nullable=False),
        sa.Column("values", ARRAY(sa.Double), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.PrimaryKeyConstraint("model_id", "node_id", "quantity", name="pk_measurements"),
    )


def downgrade() -> None:
    op.drop_table("measurements")
