"""What is counted of consolidations that have ended in a round."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from libs.common.states import ConsolidationState
from services.scheduler.metrics.metrics import SchedulerMetrics
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.consolidation.decisions import (
    AbandonConsolidation,
    CompleteConsolidation,
    SeparateWorker,
)
from services.scheduler.policy.consolidation.target import target_of
from services.scheduler.policy.decisions import Decision, FailEndpoint, StopWorkers
from services.scheduler.policy.snapshot import Snapshot


def consolidation_counts(
    metrics: SchedulerMetrics, snapshot: Snapshot, carried_out: Sequence[Decision]
) -> Iterator[Callable[[], None]]:
    """To be done after the commit. `snapshot`: before these decisions."""
    for item in carried_out:
        endpoint = snapshot.endpoints.get(getattr(item, "endpoint_id", None))
        state = None if endpoint is None else _end_of(item, endpoint)
        if endpoint is None or state is None:
            continue
        yield partial(metrics.count_consolidation, state)
        if isinstance(item, CompleteConsolidation):
            yield _standalone(metrics, snapshot, endpoint, item)


def _end_of(item: Decision, endpoint: Endpoint) -> ConsolidationState | None:
    """None: it ends none."""
    if isinstance(item, CompleteConsolidation | SeparateWorker):
        return ConsolidationState.COMPLETE
    if isinstance(item, AbandonConsolidation):
        return ConsolidationState.ABANDONED
    if endpoint.consolidation is None:
        return None
    if isinstance(item, FailEndpoint):
        return ConsolidationState.FAILED
    return ConsolidationState.ABANDONED if isinstance(item, StopWorkers) else None


def _standalone(
    metrics: SchedulerMetrics, snapshot: Snapshot, endpoint: Endpoint, item: CompleteConsolidation
) -> Callable[[], None]:
    target, since_s = target_of(snapshot, endpoint), endpoint.ready_since_s
    return partial(
        metrics.count_standalone,
        snapshot.mode,
        0 if target is None else target.load_bytes,
        item.freed_bytes,
        None if since_s is None else snapshot.now_s - since_s,
    )
