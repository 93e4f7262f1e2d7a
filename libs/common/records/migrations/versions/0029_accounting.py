"""Device memory x time of endpoints and models; by how much requests missed their SLOs, and why.

What is held when this runs is counted from now on: nobody knows how long it was idle before.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_BYTE_SECONDS = ("starting_byte_s", "busy_byte_s", "idle_byte_s")
_OUTCOMES = ("met", "queue", "cold_start", "network", "prefill", "engine", "failed")
_MISSED = {"ix_requests_missed": "tenant", "ix_requests_missed_of_model": "model_id"}
_GATEWAY_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hydra_gateway') THEN
        GRANT SELECT ON memory_hours, slo_hours TO hydra_gateway;
        GRANT INSERT, UPDATE ON slo_hours TO hydra_gateway;
    END IF;
END $$
"""
_IDLE_BEFORE = """
UPDATE reservations
SET idle_s_before = greatest(extract(epoch FROM now() - endpoints.idle_since), 0)
FROM workers JOIN endpoints ON endpoints.id = workers.endpoint_id
WHERE workers.id = reservations.worker_id AND endpoints.idle_since IS NOT NULL
"""


def upgrade() -> None:
    for table in ("endpoints", "usage"):
        for name in _BYTE_SECONDS:
            op.add_column(table, _counter(name, sa.Numeric()))
    op.add_column("endpoints", _counter("idle_s", sa.Numeric()))
    op.add_column("endpoints", sa.Column("busy_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("reservations", _counter("idle_s_before", sa.Numeric()))
    op.add_column("reservations", _counted_until())
    op.execute(_IDLE_BEFORE)
    _add_table_of_hours("memory_hours", [_counter(name, sa.Numeric()) for name in _BYTE_SECONDS])
    numbers = [_counter(f"num_{name}", sa.BigInteger()) for name in _OUTCOMES]
    _add_table_of_hours("slo_hours", numbers)
    op.execute(_GATEWAY_GRANTS)
    for name in ("slo_ttft_ms", "slo_tpot_ms"):
        op.add_column("requests", sa.Column(name, sa.BigInteger, nullable=True))
    for name in ("ttft_ms", "tpot_ms"):
        op.add_column("requests", sa.Column(name, sa.Double, nullable=True))
    op.add_column("requests", sa.Column("slo_miss", sa.String, nullable=True))
    op.create_index("ix_requests_model_id_arrived_at", "requests", ["model_id", "arrived_at"])
    for name, whose in _MISSED.items():
        op.create_index(
            name,
            "requests",
            [whose, "arrived_at"],
            postgresql_where=sa.text("slo_miss IS NOT NULL"),
        )


def downgrade() -> None:
    for name in _MISSED:
        op.drop_index(name, table_name="requests")
    op.drop_index("ix_requests_model_id_arrived_at", table_name="requests")
    for name in ("slo_miss", "tpot_ms", "ttft_ms", "slo_tpot_ms", "slo_ttft_ms"):
        op.drop_column("requests", name)
    op.drop_table("slo_hours")
    op.drop_table("memory_hours")
    op.drop_column("reservations", "counted_until")
    op.drop_column("reservations", "idle_s_before")
    op.drop_column("endpoints", "busy_at")
    op.drop_column("endpoints", "idle_s")
    for table in ("usage", "endpoints"):
        for name in _BYTE_SECONDS:
            op.drop_column(table, name)


def _counter(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, server_default=sa.text("0"))


def _counted_until() -> sa.Column[Any]:
    now = sa.text("now()")
    kind = sa.DateTime(timezone=True)
    return sa.Column("counted_until", kind, nullable=False, server_default=now)


def _add_table_of_hours(table: str, columns: list[sa.Column[Any]]) -> None:
    """Of a model each hour a row."""
    op.create_table(
        table,
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("model_id", sa.String, nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("tenant", "model_id", "hour", name=f"pk_{table}"),
    )
    op.create_index(f"ix_{table}_hour", table, ["hour"])
