"""Rows of the outbox that the gateway's role may see and write: those that a gateway publishes.

The table's owner, which is the scheduler's role, is not bound by it.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Without that role (a single-role database) nobody but the owner sees any row.
_GATEWAYS_ROWS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hydra_gateway') THEN
        CREATE POLICY outbox_of_gateways ON outbox TO hydra_gateway
            USING (service = 'gateway') WITH CHECK (service = 'gateway');
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute("ALTER TABLE outbox ENABLE ROW LEVEL SECURITY")
    op.execute(_GATEWAYS_ROWS)


def downgrade() -> None:
    op.execute("DROP POLICY IF EXISTS outbox_of_gateways ON outbox")
    op.execute("ALTER TABLE outbox DISABLE ROW LEVEL SECURITY")
