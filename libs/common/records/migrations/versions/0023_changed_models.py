"""Which transaction wrote a model last, so that gateways read what changed; their indexes."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

# The progress of an import is no change: whoever asks for it reads it, and its many writes touch no
# index. A template differs where its digest does.
_FUNCTION = """
CREATE FUNCTION note_model_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    progressed models;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        progressed := OLD;
        progressed.import_bytes_done := NEW.import_bytes_done;
        progressed.import_bytes_total := NEW.import_bytes_total;
        progressed.import_heard_at := NEW.import_heard_at;
        progressed.updated_at := NEW.updated_at;
        progressed.chat_template := NEW.chat_template;
        IF progressed IS NOT DISTINCT FROM NEW THEN
            RETURN NEW;
        END IF;
    END IF;
    NEW.changed_xid := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$
"""
_TRIGGER = """
CREATE TRIGGER note_model_change BEFORE INSERT OR UPDATE ON models
    FOR EACH ROW EXECUTE FUNCTION note_model_change()
"""


def upgrade() -> None:
    this_transaction = sa.text("pg_current_xact_id()::text::bigint")
    op.add_column(
        "models",
        sa.Column("changed_xid", sa.BigInteger(), server_default=this_transaction, nullable=False),
    )
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)
    op.create_index("ix_models_tenant_name", "models", ["tenant", "name"])
    op.create_index("ix_models_changed_xid_id", "models", ["changed_xid", "id"])
    op.create_index(
        "ix_models_askable",
        "models",
        ["tenant", "name"],
        postgresql_where=sa.text("state IN ('READY', 'IMPORTING') AND manifest_digest IS NOT NULL"),
    )
    op.create_index("ix_endpoints_tenant_created_at", "endpoints", ["tenant", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_endpoints_tenant_created_at", table_name="endpoints")
    op.execute("DROP TRIGGER note_model_change ON models")
    op.execute("DROP FUNCTION note_model_change()")
    for column in ("tenant_name", "changed_xid_id", "askable"):
        op.drop_index(f"ix_models_{column}", table_name="models")
    op.drop_column("models", "changed_xid")
