"""Models whose short import told of no bytes: what they have is what was imported."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_FILL = """
UPDATE models
SET import_bytes_done = stored.bytes, import_bytes_total = stored.bytes
FROM (
    SELECT manifests.digest, sum((unit ->> 'size_bytes')::bigint) AS bytes
    FROM manifests, jsonb_array_elements(manifests.summary -> 'units') AS unit
    GROUP BY manifests.digest
) AS stored
WHERE models.state = 'READY' AND models.import_bytes_total = 0
    AND stored.digest = models.manifest_digest
"""


def upgrade() -> None:
    op.execute(_FILL)


def downgrade() -> None:
    """What was filled in is right for the earlier version, too."""
