"""initial"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# What the gateway's role may do; without that role (a single-role database) there is nothing to do.
_GATEWAY_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hydra_gateway') THEN
        GRANT USAGE ON SCHEMA public TO hydra_gateway;
        GRANT SELECT ON models, manifests, nodes, gpus, endpoints, workers, reservations,
            cold_starts, cold_start_steps, requests, host_cache, api_keys, usage, outbox
            TO hydra_gateway;
        GRANT INSERT, UPDATE ON models, requests, api_keys, usage TO hydra_gateway;
        GRANT INSERT, UPDATE, DELETE ON outbox TO hydra_gateway;
    END IF;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_sha256", name=op.f("uq_api_keys_key_sha256")),
    )
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column(
            "heard_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateways")),
    )
    op.create_table(
        "leadership",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("scheduler_id", sa.String(), nullable=True),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leadership")),
    )
    op.create_table(
        "manifests",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_manifests")),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("desired_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("agent_boot_id", sa.String(), nullable=True),
        sa.Column(
            "agent_accepted_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("agent_heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fetcher_boot_id", sa.String(), nullable=True),
        sa.Column(
            "fetcher_accepted_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("fetcher_heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("nic_bytes_per_s", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("measured_bytes_per_s", sa.Double(), nullable=True),
        sa.Column(
            "cache_capacity_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("cache_used_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=True),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("traceparent", sa.String(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_service_id", "outbox", ["service", "id"], unique=False)
    op.create_table(
        "requests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("gateway_id", sa.String(), nullable=False),
        sa.Column("api_key_id", sa.String(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("num_crashes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=True),
        sa.Column("cold_start_id", sa.String(), nullable=True),
        sa.Column("num_prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("max_tokens", sa.BigInteger(), nullable=False),
        sa.Column(
            "num_generated_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column(
            "arrived_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_token_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("is_slo_met", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    op.create_index(
        "ix_requests_open",
        "requests",
        ["model_id", "arrived_at"],
        unique=False,
        postgresql_where=sa.text("state <> 'ENDED'"),
    )
    op.create_index(
        "ix_requests_tenant_arrived_at", "requests", ["tenant", "arrived_at"], unique=False
    )
    op.create_table(
        "usage",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("num_requests", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "num_prompt_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column(
            "num_generated_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.PrimaryKeyConstraint("tenant", "model_id", "day", name=op.f("pk_usage")),
    )
    op.create_table(
        "gpus",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("cores", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_gpus_node_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", "index", name=op.f("pk_gpus")),
    )
    op.create_table(
        "host_cache",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("unit_digest", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_host_cache_node_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", "unit_digest", name=op.f("pk_host_cache")),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("is_public", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("slo_ttft_ms", sa.BigInteger(), nullable=False),
        sa.Column("slo_tpot_ms", sa.BigInteger(), nullable=False),
        sa.Column("keep_alive_s", sa.Double(), nullable=False),
        sa.Column("max_pipeline_size", sa.BigInteger(), nullable=False),
        sa.Column("max_queue", sa.BigInteger(), nullable=False),
        sa.Column("max_slots", sa.BigInteger(), nullable=False),
        sa.Column("max_endpoints", sa.BigInteger(), nullable=False),
        sa.Column("max_context_tokens", sa.BigInteger(), nullable=True),
        sa.Column("kv_cache_bytes", sa.BigInteger(), nullable=True),
        sa.Column("import_id", sa.String(), nullable=True),
        sa.Column(
            "import_bytes_done", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column(
            "import_bytes_total", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("import_heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("manifest_digest", sa.String(), nullable=True),
        sa.Column(
            "num_failed_starts", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("backoff_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["manifest_digest"], ["manifests.digest"], name=op.f("fk_models_manifest_digest")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
    )
    op.create_index(
        "uq_models_tenant_name",
        "models",
        ["tenant", "name"],
        unique=True,
        postgresql_where=sa.text("state <> 'DELETING'"),
    )
    op.create_table(
        "endpoints",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("parent_id", sa.String(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("max_slots", sa.BigInteger(), nullable=False),
        sa.Column("num_stages", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idle_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_endpoints_model_id")),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["endpoints.id"], name=op.f("fk_endpoints_parent_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
    )
    op.create_index(
        "ix_endpoints_live",
        "endpoints",
        ["model_id"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('STOPPED', 'FAILED')"),
    )
    op.create_table(
        "cold_starts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("traceparent", sa.String(), nullable=True),
        sa.Column("weight_bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_from_cache", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
            name=op.f("fk_cold_starts_endpoint_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_cold_starts_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cold_starts")),
    )
    op.create_index(
        "ix_cold_starts_tenant_started_at", "cold_starts", ["tenant", "started_at"], unique=False
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("device_index", sa.BigInteger(), nullable=False),
        sa.Column("stage_index", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("fetch_class", sa.String(), nullable=False),
        sa.Column("is_desired", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=True),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("public_key", sa.String(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
            name=op.f("fk_workers_endpoint_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_workers_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index(
        "ix_workers_desired",
        "workers",
        ["node_id"],
        unique=False,
        postgresql_where=sa.text("is_desired"),
    )
    op.create_index("ix_workers_endpoint_id", "workers", ["endpoint_id"], unique=False)
    op.create_table(
        "cold_start_steps",
        sa.Column("cold_start_id", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("stage_index", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("detail", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(
            ["cold_start_id"],
            ["cold_starts.id"],
            name=op.f("fk_cold_start_steps_cold_start_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("cold_start_id", "actor", "name", name=op.f("pk_cold_start_steps")),
    )
    op.create_table(
        "reservations",
        sa.Column("worker_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("device_index", sa.BigInteger(), nullable=False),
        sa.Column("device_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_reservations_node_id")),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["workers.id"],
            name=op.f("fk_reservations_worker_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_reservations")),
    )
    op.create_index(
        "ix_reservations_node_id_device_index",
        "reservations",
        ["node_id", "device_index"],
        unique=False,
    )

    op.execute(_GATEWAY_GRANTS)


def downgrade() -> None:
    op.drop_index("ix_reservations_node_id_device_index", table_name="reservations")
    op.drop_table("reservations")
    op.drop_table("cold_start_steps")
    op.drop_index("ix_workers_endpoint_id", table_name="workers")
    op.drop_index(
        "ix_workers_desired", table_name="workers", postgresql_where=sa.text("is_desired")
    )
    op.drop_table("workers")
    op.drop_index("ix_cold_starts_tenant_started_at", table_name="cold_starts")
    op.drop_table("cold_starts")
    op.drop_index(
        "ix_endpoints_live",
        table_name="endpoints",
        postgresql_where=sa.text("state NOT IN ('STOPPED', 'FAILED')"),
    )
    op.drop_table("endpoints")
    op.drop_index(
        "uq_models_tenant_name",
        table_name="models",
        postgresql_where=sa.text("state <> 'DELETING'"),
    )
    op.drop_table("models")
    op.drop_table("host_cache")
    op.drop_table("gpus")
    op.drop_table("usage")
    op.drop_index("ix_requests_tenant_arrived_at", table_name="requests")
    op.drop_index(
        "ix_requests_open", table_name="requests", postgresql_where=sa.text("state <> 'ENDED'")
    )
    op.drop_table("requests")
    op.drop_index("ix_outbox_service_id", table_name="outbox")
    op.drop_table("outbox")
    op.drop_table("nodes")
    op.drop_table("manifests")
    op.drop_table("leadership")
    op.drop_table("gateways")
    op.drop_table("api_keys")
