"""What the scheduler had measured when a run began, as the simulator takes it. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from benchmarks.replay.record import MeasuredValues
from services.scheduler.policy.prediction.quantities import SCOPES, MeasurementKey, Quantity, Scope

Values = dict[MeasurementKey, tuple[float, ...]]


def known_values(
    rows: Sequence[MeasuredValues], node_ids: Mapping[str, str], models: Collection[str]
) -> Values:
    """`node_ids`: the simulated node that stands for each real one. What is of none of these, or of
    none of these models, is left out."""
    return dict(_known(rows, node_ids, models))


def _known(
    rows: Sequence[MeasuredValues], node_ids: Mapping[str, str], models: Collection[str]
) -> Iterator[tuple[MeasurementKey, tuple[float, ...]]]:
    for row in rows:
        quantity = Quantity(row.quantity)
        if row.node_id and row.node_id in node_ids:
            yield MeasurementKey(quantity, node_id=node_ids[row.node_id]), row.values
        elif row.model and row.model in models:
            yield MeasurementKey(quantity, model_id=row.model), row.values
        elif not row.node_id and not row.model and Scope.CLUSTER in SCOPES[quantity]:
            yield MeasurementKey(quantity), row.values
