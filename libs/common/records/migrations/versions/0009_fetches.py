"""Fetches with an identity of their own.

Workers that live get one whose id is the worker's, as their fetchers know it already.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fetches",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("node_id", sa.String, nullable=False),
        sa.Column("endpoint_id", sa.String, nullable=True),
        sa.Column("worker_id", sa.String, nullable=True),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("fetch_class", sa.String, nullable=False),
        sa.Column("manifest_digest", sa.String, nullable=False),
        sa.Column("unit_digests", postgresql.JSONB, nullable=False),
        sa.Column("traceparent", sa.String, nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_desired", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_fetches"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_fetches_node_id"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name="fk_fetches_endpoint_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name="fk_fetches_worker_id", ondelete="CASCADE"
        ),
    )
    op.create_index(
        "ix_fetches_desired", "fetches", ["node_id"], postgresql_where=sa.text("is_desired")
    )
    op.create_index("ix_fetches_endpoint_id", "fetches", ["endpoint_id"])
    op.create_index("ix_fetches_worker_id", "fetches", ["worker_id"])
    op.create_index(
        "uq_fetches_start_of_worker",
        "fetches",
        ["worker_id"],
        unique=True,
        postgresql_where=sa.text("purpose = 'start'"),
    )
    op.execute(
        """
        INSERT INTO fetches (id, node_id, endpoint_id, worker_id, purpose, fetch_class,
            manifest_digest, unit_digests, traceparent, is_desired, created_at)
        SELECT id, node_id, endpoint_id, id, 'start', fetch_class,
            spec->>'manifest_digest', spec->'unit_digests', spec->>'traceparent', is_desired,
            created_at
        FROM workers
        WHERE is_desired OR id IN (SELECT worker_id FROM reservations)
        """
    )
    op.drop_column("workers", "fetch_class")


def downgrade() -> None:
    op.add_column(
        "workers",
        sa.Column(
            "fetch_class", sa.String, nullable=False, server_default=sa.text("'interactive'")
        ),
    )
    op.execute(
        """
        UPDATE workers SET fetch_class = fetches.fetch_class FROM fetches
        WHERE fetches.worker_id = workers.id AND fetches.purpose = 'start'
        """
    )
    op.alter_column("workers", "fetch_class", server_default=None)
    op.drop_table("fetches")
