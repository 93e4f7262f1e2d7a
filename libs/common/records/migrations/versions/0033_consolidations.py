"""Consolidations: pipelines that become one worker while they serve."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_GATEWAY_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hydra_gateway') THEN
        GRANT SELECT ON consolidations TO hydra_gateway;
    END IF;
END $$
"""
_INDEXES = {
    "ix_consolidations_endpoint_id": ["endpoint_id", "started_at"],
    "ix_consolidations_model_id_started_at": ["model_id", "started_at"],
    "ix_consolidations_worker_id": ["worker_id"],
    "ix_consolidations_fetch_id": ["fetch_id"],
}


def _column(
    name: str, kind: type[sa.types.TypeEngine[Any]], *, is_null: bool = False
) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=is_null)


def _foreign_key(column: str, table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{table}.id"], name=f"fk_consolidations_{column}", ondelete="CASCADE"
    )


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "consolidations",
        *(_column(name, sa.String) for name in ("id", "tenant", "model_id", "endpoint_id")),
        _column("generation", sa.BigInteger),
        _column("worker_id", sa.String),
        _column("fetch_id", sa.String, is_null=True),
        _column("state", sa.String),
        _column("why", sa.String),
        _column("detail", sa.String, is_null=True),
        sa.Column("is_retried", sa.Boolean, nullable=False, server_default=sa.text("false")),
        *(_column(name, sa.BigInteger) for name in ("load_bytes", "freed_bytes", "kv_bytes")),
        _column("expected_s", sa.Double, is_null=True),
        _column("timeout_s", sa.Double),
        sa.Column("started_at", moment, nullable=False, server_default=sa.func.now()),
        *(sa.Column(name, moment, nullable=True) for name in ("copying_at", "ended_at")),
        sa.PrimaryKeyConstraint("id", name="pk_consolidations"),
        _foreign_key("endpoint_id", "endpoints"),
        _foreign_key("worker_id", "workers"),
        _foreign_key("fetch_id", "fetches"),
    )
    op.create_index(
        "uq_consolidations_open",
        "consolidations",
        ["endpoint_id"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    for name, columns in _INDEXES.items():
        op.create_index(name, "consolidations", columns)
    op.execute(_GATEWAY_GRANTS)


def downgrade() -> None:
    """Endpoints that are consolidated at this moment are pipelines again for what comes after; what
    has become one worker stays that."""
    op.execute("UPDATE endpoints SET state = 'PIPELINED' WHERE state = 'CONSOLIDATING'")
    op.execute(
        """
        DELETE FROM endpoint_members USING endpoints
        WHERE endpoints.id = endpoint_members.endpoint_id
            AND endpoint_members.generation > endpoints.generation
        """
    )
    op.drop_table("consolidations")
    op.execute("DELETE FROM fetches WHERE purpose = 'consolidation'")
