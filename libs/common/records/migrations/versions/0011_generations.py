"""An endpoint's shape: numbered generations with members. Each that lives has its first."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "endpoints",
        sa.Column("generation", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    )
    op.create_table(
        "endpoint_members",
        sa.Column("endpoint_id", sa.String, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("worker_id", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("stage_index", sa.BigInteger, nullable=False),
        sa.Column("first_layer", sa.BigInteger, nullable=False),
        sa.Column("last_layer", sa.BigInteger, nullable=False),
        sa.Column("memory", sa.String, nullable=False),
        sa.PrimaryKeyConstraint(
            "endpoint_id", "generation", "worker_id", name="pk_endpoint_members"
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
            name="fk_endpoint_members_endpoint_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name="fk_endpoint_members_worker_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_endpoint_members_worker_id", "endpoint_members", ["worker_id"])
    op.execute(
        """
        INSERT INTO endpoint_members (endpoint_id, generation, worker_id, role, stage_index,
            first_layer, last_layer, memory)
        SELECT workers.endpoint_id, 1, workers.id,
            CASE WHEN workers.stage_index = 0 THEN 'entry' ELSE 'follower' END,
            workers.stage_index,
            (workers.spec->'layers'->>'first_layer')::bigint,
            (workers.spec->'layers'->>'last_layer')::bigint,
            CASE WHEN endpoints.num_stages = 1 THEN 'full' ELSE 'low' END
        FROM workers JOIN endpoints ON endpoints.id = workers.endpoint_id
        """
    )
    # What nodes are told of workers that live, from now on with their part.
    op.execute(
        """
        UPDATE workers SET spec = workers.spec || jsonb_build_object(
            'generation', 1,
            'role', CASE WHEN workers.stage_index = 0 THEN 'entry' ELSE 'follower' END)
        WHERE workers.is_desired OR EXISTS (
            SELECT FROM reservations WHERE reservations.worker_id = workers.id)
        """
    )


def downgrade() -> None:
    op.drop_table("endpoint_members")
    op.drop_column("endpoints", "generation")
