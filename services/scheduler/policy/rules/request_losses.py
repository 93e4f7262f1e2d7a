"""Counts the ends of endpoints for the requests that these had, once their causes are known. Pure.

Gateways often report a loss before the scheduler knows of it, and sometimes after.
"""

from collections.abc import Iterator

from libs.common.states import LossKind
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import OpenRequest, RequestLoss
from services.scheduler.policy.failures.request_losses import kind_of
from services.scheduler.policy.failures.unconfirmed_losses import was_seen_alive
from services.scheduler.policy.snapshot import Snapshot


def count_losses(snapshot: Snapshot, model_id: str) -> Iterator[d.Decision]:
    for request in snapshot.requests.by("lossy", model_id):
        for loss in request.losses:
            kind = _kind(snapshot, request, loss) if loss.kind is None else None
            if kind is not None:
                yield d.CountLoss(model_id, request.id, loss.endpoint_id, kind)


def _kind(snapshot: Snapshot, request: OpenRequest, loss: RequestLoss) -> LossKind | None:
    """None while nobody knows why the endpoint was lost, or whether it was."""
    failure = snapshot.failures.get(loss.endpoint_id)
    if failure is not None:
        return kind_of(failure, request.num_engine_crashes)
    endpoint = snapshot.endpoints.get(loss.endpoint_id)
    if endpoint is None or endpoint.state.is_finished:
        return LossKind.OTHER  # it ended as asked, or so long ago that nobody remembers why
    is_alive = was_seen_alive(endpoint, loss.reported_at_s, snapshot.observed)
    return LossKind.OTHER if is_alive else None
