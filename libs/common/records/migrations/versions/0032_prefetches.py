"""Weights that are fetched into host caches because their model is likely to be asked soon."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_GATEWAY_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hydra_gateway') THEN
        GRANT SELECT ON prefetches TO hydra_gateway;
    END IF;
END $$
"""
_MOMENTS = ("prefetch_at", "prefetch_until")


def upgrade() -> None:
    for name in _MOMENTS:
        op.add_column("model_activity", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_model_activity_prefetch_at",
        "model_activity",
        ["prefetch_at"],
        postgresql_where=sa.text("prefetch_at IS NOT NULL"),
    )
    op.create_table(
        "prefetches",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("model_id", sa.String, nullable=False),
        sa.Column("node_id", sa.String, nullable=False),
        sa.Column("fetch_id", sa.String, nullable=False),
        sa.Column("file_bytes", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("complete_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_prefetches"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_prefetches_model_id"),
        sa.ForeignKeyConstraint(
            ["fetch_id"], ["fetches.id"], name="fk_prefetches_fetch_id", ondelete="CASCADE"
        ),
    )
    op.create_index("uq_prefetches_fetch_id", "prefetches", ["fetch_id"], unique=True)
    op.create_index("ix_prefetches_model_id_started_at", "prefetches", ["model_id", "started_at"])
    op.create_index(
        "ix_prefetches_open", "prefetches", ["id"], postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_index("ix_prefetches_ended_at", "prefetches", ["ended_at"])
    op.execute(_GATEWAY_GRANTS)


def downgrade() -> None:
    op.execute("DELETE FROM fetches WHERE id IN (SELECT fetch_id FROM prefetches)")
    op.drop_table("prefetches")
    op.drop_index("ix_model_activity_prefetch_at", table_name="model_activity")
    for name in _MOMENTS:
        op.drop_column("model_activity", name)
