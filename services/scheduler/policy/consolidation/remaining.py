"""For how long an endpoint is expected to hold its memory still. Pure."""

from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.kept import kept_for_s
from services.scheduler.policy.snapshot import USUAL_ANSWER_TOKENS, Snapshot

LONGEST_S = 3600.0  # what is kept for ever counts as that


def remaining_s(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> float:
    """While it works, as endpoints of its model did, or for a usual answer; and while it is kept.
    Who is idle is expected to stay that."""
    if is_idle(snapshot, endpoint):
        return min(LONGEST_S, kept_s(snapshot, endpoint, model))
    now_s, activity = snapshot.now_s, snapshot.activities.get(model.id) or ModelActivity()
    worked_s = 0.0 if endpoint.ready_since_s is None else now_s - endpoint.ready_since_s
    left_s = max(_answer_s(snapshot, model), (activity.busy_s or 0.0) - worked_s)
    return min(LONGEST_S, left_s + kept_for_s(snapshot, endpoint, model, now_s))


def is_idle(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    """Nobody has asked for it since, and nobody waits."""
    demand = snapshot.demand(endpoint.model_id)
    has_work = snapshot.num_assigned(endpoint.id) > 0 or demand.num_waiting > 0
    return endpoint.idle_since_s is not None and not has_work


def kept_s(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> float:
    """What is left of an idle endpoint's keep-alive; inf: it is kept, whoever asks."""
    assert endpoint.idle_since_s is not None, "it is idle"
    kept_for = kept_for_s(snapshot, endpoint, model, endpoint.idle_since_s)
    return max(0.0, endpoint.idle_since_s + kept_for - snapshot.now_s)


def _answer_s(snapshot: Snapshot, model: Model) -> float:
    summary = snapshot.summaries.get(model.manifest_digest or "")
    weight_bytes = 0 if summary is None else summary.weight_bytes
    return USUAL_ANSWER_TOKENS * snapshot.measured.of_model(model.id, weight_bytes).step_s()
