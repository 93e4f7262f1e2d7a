"""Rows of host caches become small, and each node's row says what they are together."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

# A random digest fits no set: the rows are compared with what the fetcher has, which puts it right.
_FILL = """
UPDATE nodes
SET num_cached_units = counted.num_units, cached_units_digest = decode(md5(random()::text), 'hex')
FROM (SELECT node_id, count(*) AS num_units FROM host_cache GROUP BY node_id) AS counted
WHERE counted.node_id = nodes.id
"""


def upgrade() -> None:
    no_units = sa.text("decode(repeat('00', 16), 'hex')")
    op.add_column(
        "nodes",
        sa.Column("cached_units_digest", sa.LargeBinary, nullable=False, server_default=no_units),
    )
    op.add_column(
        "nodes",
        sa.Column("num_cached_units", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.execute(_FILL)
    op.drop_constraint("pk_host_cache", "host_cache")
    op.alter_column(
        "host_cache",
        "unit_digest",
        type_=sa.LargeBinary,
        postgresql_using="decode(unit_digest, 'hex')",
    )
    op.create_primary_key("pk_host_cache", "host_cache", ["unit_digest", "node_id"])
    op.create_index("ix_host_cache_node_id_unit_digest", "host_cache", ["node_id", "unit_digest"])


def downgrade() -> None:
    op.drop_index("ix_host_cache_node_id_unit_digest", table_name="host_cache")
    op.drop_constraint("pk_host_cache", "host_cache")
    op.alter_column(
        "host_cache", "unit_digest", type_=sa.String, postgresql_using="encode(unit_digest, 'hex')"
    )
    op.create_primary_key("pk_host_cache", "host_cache", ["node_id", "unit_digest"])
    op.drop_column("nodes", "num_cached_units")
    op.drop_column("nodes", "cached_units_digest")
