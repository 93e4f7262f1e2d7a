"""What the end of an endpoint would cost, as the snapshot has it. Pure."""

from math import inf

from libs.common.states import EndpointState, StartPurpose
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.giving_way import Occupant
from services.scheduler.policy.scaling.kept import is_pinned, kept_for_s
from services.scheduler.policy.scaling.reclaim_order import expected_loss_s
from services.scheduler.policy.scaling.restart import StageRestart, restart_s
from services.scheduler.policy.snapshot import Snapshot

UNKNOWN_LAUNCH_S = 1.0  # of a device that is not known any more


def occupant_of(snapshot: Snapshot, endpoint: Endpoint) -> Occupant:
    model, demand = snapshot.models.get(endpoint.model_id), snapshot.demand(endpoint.model_id)
    activity = snapshot.activities.get(endpoint.model_id) or ModelActivity()
    is_busy = snapshot.num_assigned(endpoint.id) > 0
    since_s = endpoint.ready_since_s
    return Occupant(
        idle_s=None if is_busy else endpoint.idle_s(snapshot.now_s),
        warm_s=inf if since_s is None else snapshot.now_s - since_s,
        restart_s=restart_of(snapshot, endpoint),
        gaps=activity.gaps,
        has_waiting=demand.num_waiting + demand.num_unheard > 0,
        is_pinned=model is not None and is_pinned(snapshot, endpoint, model),
        gap_s=_gap_s(snapshot, activity),
    )


def loss_of(snapshot: Snapshot, endpoint: Endpoint) -> float:
    """Seconds that somebody will probably wait if an idle endpoint goes. What has not even begun to
    serve, for nobody, costs nothing."""
    since_s, model = endpoint.idle_since_s, snapshot.models.get(endpoint.model_id)
    if since_s is None:
        return 0.0
    idle_s = snapshot.now_s - since_s
    kept_s = inf if model is None else kept_for_s(snapshot, endpoint, model, since_s)
    activity = snapshot.activities.get(endpoint.model_id) or ModelActivity()
    restart, gap_s = restart_of(snapshot, endpoint), _gap_s(snapshot, activity)
    gap_s = idle_s if gap_s is None else gap_s
    return expected_loss_s(activity.gaps, restart, gap_s, kept_s - idle_s)


def _gap_s(snapshot: Snapshot, activity: ModelActivity) -> float | None:
    """Since nobody has asked for the model: what has just been started ahead, or is one of
    several, is idle for less. None: it works elsewhere, or was never asked."""
    return None if activity.idle_since_s is None else snapshot.now_s - activity.idle_since_s


def restart_of(snapshot: Snapshot, endpoint: Endpoint) -> float:
    """As if it was started again where it is now."""
    model = snapshot.models.get(endpoint.model_id)
    summary = None if model is None else snapshot.summary(model)
    weight_bytes = 0 if summary is None else summary.weight_bytes
    share_bytes = weight_bytes // max(1, len(endpoint.workers))
    return restart_s(_stage(snapshot, worker, share_bytes) for worker in endpoint.workers)


def _stage(snapshot: Snapshot, worker: Worker, weight_bytes: int) -> StageRestart:
    """Its weights stay in the host cache while that has room for as many of another model; after
    that they are the first to go, or nearly so."""
    agent = snapshot.observed.agents.get(worker.node_id)
    fetcher = snapshot.observed.fetchers.get(worker.node_id)
    has_standby = agent is not None and agent.heartbeat.num_standbys > 0
    if fetcher is None:
        return StageRestart(_launch_s(snapshot, worker), weight_bytes, 0.0)
    said = fetcher.heartbeat
    is_kept = said.cache_capacity_bytes - said.cache_used_bytes >= weight_bytes
    return StageRestart(
        0.0 if has_standby else _launch_s(snapshot, worker),
        0 if is_kept else weight_bytes,
        said.measured_bytes_per_s or said.nic_bytes_per_s,
    )


def _launch_s(snapshot: Snapshot, worker: Worker) -> float:
    devices = snapshot.devices.get(worker.node_id, ())
    own = (device.launch_s for device in devices if device.index == worker.device_index)
    return next(own, UNKNOWN_LAUNCH_S)


def is_started_for_nobody(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    """It starts ahead of a request that is expected: whoever needs the room now goes first."""
    is_ahead = endpoint.purpose in (StartPurpose.AHEAD, StartPurpose.LOAD)
    is_starting = endpoint.state is EndpointState.STARTING
    return is_ahead and is_starting and snapshot.num_assigned(endpoint.id) == 0
