"""Whether anybody needs an endpoint: one that starts, and one that is idle. Pure."""

from libs.common.states import EndpointState, StartPurpose
from services.scheduler.policy.cluster import Demand, Endpoint, Model
from services.scheduler.policy.idleness import Idleness
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.autoscaler import future_endpoints
from services.scheduler.policy.scaling.expected import expected_endpoints
from services.scheduler.policy.scaling.kept import kept_for_s
from services.scheduler.policy.scaling.unasked import unasked_start
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.start_progress import StartProgress


def is_idle_for_long(
    snapshot: Snapshot, endpoint: Endpoint, idle: Idleness, model: Model, demand: Demand
) -> bool:
    """Its workers have nothing to do for a moment also while the queue's next ones are on their
    way to them."""
    if demand.num_waiting or idle.idle_s is None:
        return False
    since_s = snapshot.now_s - idle.idle_s
    return idle.idle_s >= kept_for_s(snapshot, endpoint, model, since_s)


def is_abandoned(
    snapshot: Snapshot,
    endpoint: Endpoint,
    model: Model,
    demand: Demand,
    progress: StartProgress,
) -> bool:
    """Nobody waits for the start or is expected to need it, and little of it is done. A leader
    that has just begun cannot tell how much is: its nodes may not have spoken yet, and all its
    stages may be ready."""
    if endpoint.state is not EndpointState.STARTING or not snapshot.knows_all_nodes:
        return False
    if endpoint.purpose is not StartPurpose.REQUEST:
        return False
    num_waiting = demand.num_waiting + demand.num_unheard + snapshot.num_assigned(endpoint.id)
    is_little_done = progress.fraction < snapshot.limits.abandon_below_fraction
    if num_waiting or not is_little_done or _is_expected(snapshot, model):
        return False
    return not _is_wanted_unasked(snapshot, endpoint, model)


def _is_wanted_unasked(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> bool:
    """Without it another one would start, for a pin, a preload, or a request that is expected: it
    was started for that, or saves that start."""
    live = (e for e in snapshot.endpoints.by("model", model.id) if e.state.can_take_requests)
    others = (e for e in live if e.id != endpoint.id)
    num_others = future_endpoints(others, can_consolidate=snapshot.limits.can_consolidate)
    activity = snapshot.activities.get(model.id) or ModelActivity()
    commands = snapshot.commands.get(model.id, ())
    return unasked_start(model, activity, commands, num_others, snapshot.now_s) is not None


def _is_expected(snapshot: Snapshot, model: Model) -> bool:
    """Its requests will take all the endpoints that there are, with what starts."""
    live = (e for e in snapshot.endpoints.by("model", model.id) if e.state.can_take_requests)
    num_future = future_endpoints(live, can_consolidate=snapshot.limits.can_consolidate)
    return 0 < num_future <= expected_endpoints(snapshot, model)
