"""Rows of `measurements`: what is known of nodes, of models and of the cluster.

Those of nodes and of the cluster are read whole, a few for each node; those of a model only with
the model, for there may be a hundred thousand.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import MeasurementRow
from services.scheduler.policy.prediction.measurements import MAX_VALUES
from services.scheduler.policy.prediction.quantities import MeasurementKey, Quantity
from services.scheduler.store.columns.arrays import is_among

logger = logging.getLogger(__name__)

Values = dict[MeasurementKey, tuple[float, ...]]  # oldest first

_COLUMNS = (
    MeasurementRow.model_id,
    MeasurementRow.node_id,
    MeasurementRow.quantity,
    MeasurementRow.values,
)
_SHARED = select(*_COLUMNS).where(MeasurementRow.model_id == "")
_OF_MODELS = select(*_COLUMNS).where(is_among(MeasurementRow.model_id, "model_ids"))
# An array of arrays has no rows in Postgres: each row's values come as one text.
_APPEND = text(
    """
    INSERT INTO measurements (quantity, node_id, model_id, "values")
    SELECT quantity, node_id, model_id, CAST(added AS float8[])
    FROM unnest(
        CAST(:quantities AS text[]), CAST(:nodes AS text[]), CAST(:models AS text[]),
        CAST(:added AS text[])) AS new (quantity, node_id, model_id, added)
    ON CONFLICT (model_id, node_id, quantity) DO UPDATE SET
        "values" = (measurements."values" || excluded."values")[
            greatest(1, cardinality(measurements."values" || excluded."values") - :kept + 1) :],
        updated_at = now()
    """
)


async def append(session: AsyncSession, new: Mapping[MeasurementKey, Sequence[float]]) -> None:
    """Behind what the rows have, of which the newest stay: with one statement."""
    if not new:
        return
    values = {
        "quantities": [key.quantity.value for key in new],
        "nodes": [key.node_id for key in new],
        "models": [key.model_id for key in new],
        "added": [_array(added[-MAX_VALUES:]) for added in new.values()],
        "kept": MAX_VALUES,
    }
    await session.execute(_APPEND, values)


async def load_shared(session: AsyncSession) -> Values:
    """Of every node, and of the cluster."""
    return _values(await session.execute(_SHARED))


async def load_of_models(session: AsyncSession, model_ids: Collection[str]) -> Values:
    if not model_ids:
        return {}
    return _values(await session.execute(_OF_MODELS, {"model_ids": list(model_ids)}))


def _array(values: Sequence[float]) -> str:
    return "{" + ",".join(map(repr, values)) + "}"


def _values(rows: Any) -> Values:
    """Without rows of another version of this software."""
    found = {}
    for row in rows:
        try:
            key = MeasurementKey(Quantity(row.quantity), row.node_id, row.model_id)
        except (ValueError, AssertionError):
            logger.warning("a measurement of an unknown kind: %s", row.quantity)
            continue
        found[key] = tuple(row.values)
    return found
