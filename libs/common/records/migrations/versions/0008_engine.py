"""Which engine a model asks for, and what each engine takes on each node, as measured there."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("engine", sa.String, nullable=False, server_default="auto"))
    op.add_column("workers", sa.Column("engine", sa.String, nullable=False, server_default="stage"))
    op.create_table(
        "node_engines",
        sa.Column("node_id", sa.String, nullable=False),
        sa.Column("engine", sa.String, nullable=False),
        sa.Column("launch_s", sa.Float, nullable=True),
        sa.Column("worker_bytes", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("node_id", "engine", name="pk_node_engines"),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_node_engines_node_id", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("node_engines")
    op.drop_column("workers", "engine")
    op.drop_column("models", "engine")
