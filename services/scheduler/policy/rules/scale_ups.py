"""Lets workers of a pipeline that is about to become one worker be endpoints of their own, where
the model needs several. Pure, level-triggered, as the consolidation of the entry is."""

from collections.abc import Iterator
from math import isfinite

from libs.common.ids import derived_id
from libs.common.states import ModelState, WorkerState
from services.scheduler.policy.cluster import Endpoint, Model, Worker
from services.scheduler.policy.consolidation import decisions as c
from services.scheduler.policy.consolidation.conditions import has_slack, is_possible
from services.scheduler.policy.consolidation.duration import duration_s
from services.scheduler.policy.consolidation.facts import scale_up_situation_of
from services.scheduler.policy.consolidation.patience import timeout_s
from services.scheduler.policy.consolidation.scale_up_lifecycle import (
    Action,
    Situation,
    Transition,
    next_transition,
)
from services.scheduler.policy.consolidation.target import target_of_worker
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.scaling.autoscaler import EndpointBounds, future_endpoints
from services.scheduler.policy.scaling.expected import expected_endpoints
from services.scheduler.policy.scaling.needed import needed_now
from services.scheduler.policy.snapshot import Snapshot


def follow_scale_ups(snapshot: Snapshot, endpoint: Endpoint) -> Iterator[c.ConsolidationDecision]:
    """Of those under way."""
    for worker in endpoint.growing_workers:
        open_ = worker.consolidation
        assert open_ is not None, "it has a target"
        situation = scale_up_situation_of(snapshot, endpoint, worker)
        due = next_transition(open_.state, situation)
        if due is None:
            continue
        if due.action is Action.SEPARATE:
            yield from _separate(snapshot, endpoint, worker, due)
            continue
        yield c.AbandonConsolidation(
            *(endpoint.model_id, endpoint.id, open_.id, worker.node_id),
            why=due.why(situation),
            counts=due.action is Action.ABANDON,
        )


def _separate(
    snapshot: Snapshot, endpoint: Endpoint, worker: Worker, due: Transition
) -> Iterator[c.ConsolidationDecision]:
    """Once its manifest is known, which a new leader reads first."""
    open_, target = worker.consolidation, target_of_worker(snapshot, endpoint, worker)
    if open_ is None or target is None:
        return
    yield c.SeparateWorker(
        *(endpoint.model_id, endpoint.id, open_.id, worker.node_id),
        worker_id=worker.id,
        child_id=derived_id("endpoint", snapshot.nonce, f"{worker.id}/alone"),
        generation=open_.generation,
        unit_digests=target.unit_digests,
        num_layers=target.num_layers,
        kv_bytes=target.kv_bytes,
        why=due.meaning,
    )


def may_scale_up(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    """What costs nothing to ask: mostly there are no others."""
    if not snapshot.limits.can_consolidate or endpoint.consolidation is None:
        return False
    if not endpoint.state.is_serving or not endpoint.is_whole:
        return False
    return endpoint.consolidation_tries.may_try(snapshot.now_s) and any(_able(snapshot, endpoint))


def begin_scale_ups(
    snapshot: Snapshot, endpoint_id: str, network: Network, usable: Cluster
) -> Iterator[c.ConsolidationDecision]:
    """As many as the model needs, the first stages first. What is left of the network and of host
    caches is for these, after the entry's own."""
    endpoint = snapshot.endpoints.get(endpoint_id)
    model = None if endpoint is None else snapshot.models.get(endpoint.model_id)
    if endpoint is None or model is None or model.state is not ModelState.READY:
        return
    if not may_scale_up(snapshot, endpoint):
        return
    num_wanted = _num_wanted(snapshot, endpoint, model)
    num_missing = num_wanted - 1 - len(endpoint.growing_workers)
    for worker in _able(snapshot, endpoint):
        if num_missing < 1:
            return
        why = f"its model needs {num_wanted} of the pipeline's workers"
        begun = _begun(snapshot, endpoint, worker, network, usable, why)
        if begun is not None:
            num_missing -= 1
            yield begun


def _begun(
    snapshot: Snapshot,
    endpoint: Endpoint,
    worker: Worker,
    network: Network,
    usable: Cluster,
    why: str,
) -> c.BeginConsolidation | None:
    """None: there is no room, or somebody waits for the network."""
    target = target_of_worker(snapshot, endpoint, worker)
    if target is None or not is_possible(snapshot, worker, target, usable.get(worker.node_id)):
        return None
    if not has_slack(network, worker.node_id, snapshot.now_s):
        return None
    expected_s = duration_s(snapshot, worker, target, network)
    if next_transition(None, Situation(reason=why if isfinite(expected_s) else None)) is None:
        return None
    return c.BeginConsolidation(
        *(endpoint.model_id, endpoint.id),
        derived_id("consolidation", snapshot.nonce, worker.id),
        worker.node_id,
        worker_id=worker.id,
        generation=endpoint.generation + 1,
        fetch_id=derived_id("fetch", snapshot.nonce, f"{worker.id}/consolidation"),
        unit_digests=target.lacking_digests,
        num_layers=target.num_layers,
        load_bytes=target.load_bytes,
        freed_bytes=0,
        kv_bytes=target.kv_bytes,
        expected_s=expected_s,
        timeout_s=timeout_s(expected_s),
        why=why,
        is_scale_up=True,
    )


def _able(snapshot: Snapshot, endpoint: Endpoint) -> Iterator[Worker]:
    """Members behind the entry with memory for the whole model, that are ready and whose agent
    speaks of no target: of an earlier one it may still tell how that ended."""
    entry, by_id = endpoint.entry, {worker.id: worker for worker in endpoint.member_workers}
    for member in endpoint.members:
        worker = by_id.get(member.worker_id)
        if worker is None or not member.is_full or (entry is not None and worker.id == entry.id):
            continue
        seen = snapshot.observed.worker(worker)
        is_ready = seen is not None and seen.state is WorkerState.READY
        if is_ready and seen is not None and seen.consolidation is None:
            if worker.consolidation is None and worker.is_desired:
                yield worker


def _num_wanted(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> int:
    """Endpoints that are to come of this one, with its entry."""
    live = [e for e in snapshot.endpoints.by("model", model.id) if e.state.can_take_requests]
    others = (other for other in live if other.id != endpoint.id)
    num_others = future_endpoints(others, can_consolidate=snapshot.limits.can_consolidate)
    needed = max(needed_now(snapshot, model, live), expected_endpoints(snapshot, model))
    bounds = EndpointBounds(model.min_endpoints, model.max_endpoints)
    return max(1, bounds.clamp(needed) - num_others)
