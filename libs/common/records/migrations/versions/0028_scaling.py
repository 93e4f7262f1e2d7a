"""Endpoints that a model shall always have, what operators ask for, and when models were asked."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_GATEWAY_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hydra_gateway') THEN
        GRANT SELECT, INSERT, UPDATE ON model_commands TO hydra_gateway;
    END IF;
END $$
"""


def upgrade() -> None:
    op.add_column(
        "models",
        sa.Column("min_endpoints", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.add_column(
        "models",
        sa.Column(
            "is_keep_alive_auto", sa.Boolean, nullable=False, server_default=sa.text("false")
        ),
    )
    op.create_index(
        "ix_models_pinned", "models", ["id"], postgresql_where=sa.text("min_endpoints > 0")
    )
    op.add_column(
        "endpoints",
        sa.Column("purpose", sa.String, nullable=False, server_default=sa.text("'request'")),
    )
    _create_commands()
    _create_activity()
    op.execute(_GATEWAY_GRANTS)


def _create_commands() -> None:
    op.create_table(
        "model_commands",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("model_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model_commands"),
        _of_model("model_commands"),
    )
    op.create_index(
        "uq_model_commands_model_id_kind", "model_commands", ["model_id", "kind"], unique=True
    )


def _create_activity() -> None:
    op.create_table(
        "model_activity",
        sa.Column("model_id", sa.String, nullable=False),
        sa.Column("gaps", sa.LargeBinary, nullable=False),
        sa.Column("idle_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("restart_s", sa.Double, nullable=True),
        sa.Column("was_started_ahead", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("ahead_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ahead_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("model_id", name="pk_model_activity"),
        _of_model("model_activity"),
    )
    op.create_index(
        "ix_model_activity_ahead_at",
        "model_activity",
        ["ahead_at"],
        postgresql_where=sa.text("ahead_at IS NOT NULL"),
    )


def _of_model(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["model_id"], ["models.id"], name=f"fk_{table}_model_id", ondelete="CASCADE"
    )


def downgrade() -> None:
    op.drop_table("model_activity")
    op.drop_table("model_commands")
    op.drop_column("endpoints", "purpose")
    op.drop_index("ix_models_pinned", table_name="models")
    op.drop_column("models", "is_keep_alive_auto")
    op.drop_column("models", "min_endpoints")
