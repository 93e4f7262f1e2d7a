"""What decisions tell of when models were asked. Pure."""

from collections.abc import Iterable, Mapping

from libs.common.states import StartPurpose
from services.scheduler.policy import decisions as d
from services.scheduler.policy.persistent import put
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.snapshot import Snapshot

_TELLING = (d.MarkBusy, d.MarkIdle, d.ServeEndpoint, d.StartEndpoint)


def with_activity(before: Snapshot, after: Snapshot, decision: d.Decision) -> Snapshot:
    """`after` with what one decision, made of `before`, says of its model. Endpoints are marked
    busy and idle by what their workers say (`idleness.py`)."""
    match decision:
        case d.StartEndpoint() | d.ServeEndpoint() | d.MarkBusy() | d.MarkIdle():
            known = before.activities.get(decision.model_id) or ModelActivity()
            activity = _told(before, known, decision)
        case _:
            return after
    if activity is known:
        return after
    return after.changed(activities=put(after.activities, decision.model_id, activity))


def changed_activities(
    before: Snapshot, after: Snapshot, decisions: Iterable[d.Decision]
) -> Mapping[str, ModelActivity]:
    """By model, as they are after these decisions of one round: what rows are to say."""
    told = {decision.model_id for decision in decisions if isinstance(decision, _TELLING)}
    return {
        model_id: after.activities[model_id]
        for model_id in sorted(told)
        if after.activities.get(model_id) is not before.activities.get(model_id)
    }


def _told(
    before: Snapshot,
    known: ModelActivity,
    decision: d.StartEndpoint | d.ServeEndpoint | d.MarkBusy | d.MarkIdle,
) -> ModelActivity:
    match decision:
        case d.ServeEndpoint(endpoint_id=endpoint_id, is_idle=is_idle):
            endpoint = before.endpoints.get(endpoint_id)
            was_asked = endpoint is not None and endpoint.purpose is StartPurpose.REQUEST
            if not is_idle:
                return known.working(before.now_s)
            is_over = not _others_work(before, decision.model_id, endpoint_id)
            return known.served(before.now_s) if was_asked and is_over else known
        case d.MarkBusy():
            return known.asked(before.now_s).working(before.now_s)
        case d.MarkIdle(endpoint_id=endpoint_id, idle_s=idle_s):
            since_s = before.now_s - idle_s
            is_last = not _others_work(before, decision.model_id, endpoint_id)
            return known.rested(since_s) if is_last else known.asked(since_s)
        case d.StartEndpoint(purpose=StartPurpose.REQUEST):
            request = before.requests.get(decision.request_id)
            asked_at_s = before.now_s if request is None else request.arrived_at_s
            return _started(before, known.asked(asked_at_s), decision)
        case d.StartEndpoint(purpose=purpose):
            started = _started(before, known, decision)
            return started.started_ahead() if purpose is StartPurpose.AHEAD else started


def _started(before: Snapshot, known: ModelActivity, decision: d.StartEndpoint) -> ModelActivity:
    """What a start takes, and by how much its first token would be late for a request of then. One
    beside others says nothing: it finds what these have left of the cluster, and the next gap ends
    with a first one."""
    others = before.endpoints.by("model", decision.model_id)
    if known.restart_s is not None and any(e.state.can_take_requests for e in others):
        return known
    model, predicted = before.models.get(decision.model_id), decision.prediction
    late_s = None
    if model is not None and predicted is not None:
        late_s = max(0.0, predicted.ttft_s - predicted.waited_s - model.slo_ttft_s)
    return known.started(decision.plan.start_s, late_s)


def _others_work(snapshot: Snapshot, model_id: str, endpoint_id: str) -> bool:
    """Other endpoints of the model; one that starts works if it was given requests."""
    others = (e for e in snapshot.endpoints.by("model", model_id) if e.id != endpoint_id)
    return any(
        e.idle_since_s is None if e.state.is_serving else snapshot.num_assigned(e.id) > 0
        for e in others
        if e.state.can_take_requests
    )
