"""Indexes by which regular statements find what they need among many models and a long history.

Rows of ended workers and fetches outlive their nodes' rows, so they refer to them no more.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_OBJECTS = """
CREATE INDEX ix_manifests_objects ON manifests USING gin ((
    jsonb_path_query_array(summary, '$.units[*].digest')
    || jsonb_path_query_array(summary, '$.tokenizer_files.*[0]')) jsonb_path_ops)
    WITH (fastupdate = off)
"""


def upgrade() -> None:
    for state, column in (("IMPORTING", "import_heard_at"), ("DELETING", "updated_at")):
        where = sa.text(f"state = '{state}'")
        name = f"ix_models_{state.lower()}"
        op.create_index(name, "models", [column], postgresql_where=where)
    op.create_index("ix_models_manifest_digest", "models", ["manifest_digest"])
    op.create_index("ix_endpoints_model_id", "endpoints", ["model_id"])
    op.create_index("ix_cold_starts_model_id", "cold_starts", ["model_id"])
    op.execute(_OBJECTS)
    op.drop_constraint("fk_workers_node_id", "workers", type_="foreignkey")
    op.drop_constraint("fk_fetches_node_id", "fetches", type_="foreignkey")


def downgrade() -> None:
    for table in ("workers", "fetches"):
        op.execute(f"DELETE FROM {table} WHERE node_id NOT IN (SELECT id FROM nodes)")
        op.create_foreign_key(f"fk_{table}_node_id", table, "nodes", ["node_id"], ["id"])
    op.drop_index("ix_manifests_objects", table_name="manifests")
    op.drop_index("ix_cold_starts_model_id", table_name="cold_starts")
    op.drop_index("ix_endpoints_model_id", table_name="endpoints")
    op.drop_index("ix_models_manifest_digest", table_name="models")
    op.drop_index("ix_models_deleting", table_name="models")
    op.drop_index("ix_models_importing", table_name="models")
