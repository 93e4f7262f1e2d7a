"""How long an endpoint is kept while nobody asks for it. Pure."""

from math import inf

from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.snapshot import Snapshot


def kept_for_s(snapshot: Snapshot, endpoint: Endpoint, model: Model, idle_since_s: float) -> float:
    """Seconds from then on: as its model says, or as its gaps do. One that was started ahead stays
    for as long as its request is expected."""
    if is_pinned(snapshot, endpoint, model):
        return inf
    if not model.is_keep_alive_auto:
        return model.keep_alive_s
    activity = snapshot.activities.get(model.id) or ModelActivity()
    until_s = activity.ahead_until_s if activity.was_started_ahead else None
    return max(activity.plan.keep_s, -inf if until_s is None else until_s - idle_since_s)


def is_pinned(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> bool:
    """Without it the model would have fewer than it shall have, whoever asks."""
    return endpoint.state.can_take_requests and num_spare(snapshot, endpoint, model) <= 0


def num_spare(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> float:
    """How many may go of those beside it, itself included; inf: its model keeps none."""
    at_least = min(model.min_endpoints, model.max_endpoints)
    if not at_least:
        return inf
    live = [e for e in snapshot.endpoints.by("model", model.id) if e.state.can_take_requests]
    if endpoint.state.is_serving:
        # Those that start answer nobody yet: one that serves stays until another is ready.
        live = [e for e in live if e.state.is_serving]
    return len(live) - at_least
