"""Crashes of engines and losses of nodes, counted apart and each endpoint once for a request."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("requests", "num_crashes", new_column_name="num_engine_crashes")
    op.add_column(
        "requests",
        sa.Column("num_node_losses", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.create_table(
        "request_losses",
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("endpoint_id", sa.String, nullable=False),
        sa.Column("has_progressed", sa.Boolean, nullable=False),
        sa.Column("kind", sa.String, nullable=True),
        sa.Column(
            "reported_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("request_id", "endpoint_id", name="pk_request_losses"),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["requests.id"],
            name="fk_request_losses_request_id",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("request_losses")
    op.drop_column("requests", "num_node_losses")
    op.alter_column("requests", "num_engine_crashes", new_column_name="num_crashes")
