"""Whether a consolidation may begin now, and why. Pure."""

from math import isfinite

from libs.common.bus.messages import WorkerObserved
from libs.common.decode_batches import decode_batch
from libs.common.states import EndpointState, ModelState, WorkerState
from services.scheduler.policy.cluster import Endpoint, Model, Worker
from services.scheduler.policy.consolidation.benefit import Benefit, TokenTimes, reason_for
from services.scheduler.policy.consolidation.remaining import remaining_s
from services.scheduler.policy.consolidation.target import ConsolidationTarget, has_room
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.memory import file_bytes
from services.scheduler.policy.snapshot import Snapshot

SLACK_S = 1.0  # that interactive fetches on the entry's node have, or nothing begins there


def may_try(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    """What costs nothing to ask: mostly there are no others."""
    if not snapshot.limits.can_consolidate or endpoint.state is not EndpointState.PIPELINED:
        return False
    if endpoint.consolidation is not None or not endpoint.is_consolidatable:
        return False
    model = snapshot.models.get(endpoint.model_id)
    if model is None or model.state is not ModelState.READY:
        return False
    tries = endpoint.consolidation_tries.may_try(snapshot.now_s)
    return tries and endpoint.is_whole and _are_ready(snapshot, endpoint)


def _are_ready(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    """All its members, and the entry's agent speaks of no target: of an earlier one it may still
    tell how that ended."""
    seen = [snapshot.observed.worker(worker) for worker in endpoint.member_workers]
    if any(worker is None or worker.state is not WorkerState.READY for worker in seen):
        return False
    entry = snapshot.observed.entry(endpoint)
    return entry is not None and entry.consolidation is None


def is_possible(
    snapshot: Snapshot, worker: Worker, target: ConsolidationTarget, node: Node | None
) -> bool:
    """Whether there is room for the whole model: in the worker's reservation, and in its node's
    host cache. `node`: the worker's, as it can be used now; None: it cannot be."""
    summary = snapshot.summaries[worker.manifest_digest]
    if node is None or not has_room(worker, summary):
        return False
    new = (unit for unit in target.lacking if unit.digest not in node.held_units)
    return sum(file_bytes(unit) for unit in new) <= node.cache_free_bytes


def has_slack(network: Network, node_id: str, now_s: float) -> bool:
    """Whether whoever fetches there for somebody who waits is sure to be in time. One that has no
    deadline is late already."""
    node = network.get(node_id)
    if node is None:
        return False
    ends_s = network.interactive_ends_s if network.is_egress_limit else {}
    for flow, alone_s in zip(node.interactive, node.ends_s.tolist(), strict=True):
        done_at_s = now_s + ends_s.get(flow.fetch_id, alone_s)
        if flow.deadline_s is None or done_at_s + SLACK_S > flow.deadline_s:
            return False
    return True


def reason_to_begin(
    snapshot: Snapshot,
    endpoint: Endpoint,
    model: Model,
    target: ConsolidationTarget,
    duration_s: float,
) -> str | None:
    """None: it is not worth it, or nothing is known of its node's network."""
    if not isfinite(duration_s):
        return None
    benefit = Benefit(
        freed_bytes=target.freed_bytes,
        held_bytes=sum(worker.device_bytes for worker in endpoint.workers),
        load_bytes=target.load_bytes,
        duration_s=duration_s,
        remaining_s=remaining_s(snapshot, endpoint, model),
    )
    return reason_for(benefit, _token_times(snapshot, endpoint, model))


def _token_times(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> TokenTimes:
    entry, seen = endpoint.entry, snapshot.observed.entry(endpoint)
    assert entry is not None and seen is not None, "it is ready"
    weight_bytes = snapshot.summaries[entry.manifest_digest].weight_bytes
    figures = snapshot.measured.of_model(model.id, weight_bytes)
    num_running = max(1, seen.num_running)
    whole_s = figures.step_s(num_running)
    hops_s = snapshot.measured.cluster.hop_s * (endpoint.num_stages - 1)
    measured_s = _measured_step_s(seen, num_running)
    return TokenTimes(
        pipeline_s=whole_s + hops_s if measured_s is None else measured_s,
        whole_s=whole_s,
        target_s=model.slo_tpot_s,
    )


def _measured_step_s(seen: WorkerObserved, num_running: int) -> float | None:
    times = () if seen.speed is None else seen.speed.decode
    batch = decode_batch(num_running)
    return next((time.mean_us / 1e6 for time in times if time.batch == batch), None)
