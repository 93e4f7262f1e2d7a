"""Lets pipelines become one worker, and follows them on their way. Pure, level-triggered: whichever
leader looks next finds what is to be done from rows and from what nodes say."""

from collections.abc import Iterator

from libs.common.ids import derived_id
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.consolidation import decisions as c
from services.scheduler.policy.consolidation.conditions import (
    has_slack,
    is_possible,
    may_try,
    reason_to_begin,
)
from services.scheduler.policy.consolidation.duration import duration_s
from services.scheduler.policy.consolidation.facts import has_switched, situation_of
from services.scheduler.policy.consolidation.lifecycle import (
    Action,
    Situation,
    Transition,
    next_transition,
)
from services.scheduler.policy.consolidation.patience import timeout_s
from services.scheduler.policy.consolidation.target import target_of
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.network.known_rates import KnownRates
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.planning.usable_cluster import NodeMemo, usable_cluster
from services.scheduler.policy.rules.scale_ups import begin_scale_ups, may_scale_up
from services.scheduler.policy.snapshot import Snapshot


def record_switch(snapshot: Snapshot, endpoint: Endpoint) -> Iterator[c.ConsolidationDecision]:
    """Before anything else is said of it: from the switch on others' ends are no loss."""
    if has_switched(snapshot, endpoint):
        yield from _due(snapshot, endpoint, Situation(has_switched=True))


def follow_consolidation(
    snapshot: Snapshot, endpoint: Endpoint
) -> Iterator[c.ConsolidationDecision]:
    """Of one that is under way."""
    if endpoint.consolidation is not None:
        yield from _due(snapshot, endpoint, situation_of(snapshot, endpoint))


def begin_consolidations(builder: DecisionBuilder, memo: NodeMemo) -> None:
    """In a sweep, after all starts: what is left of networks and host caches is for these."""
    snapshot = builder.snapshot
    pipelines = snapshot.endpoints.by("pipeline", "")
    found = [e for e in pipelines if may_try(snapshot, e) or may_scale_up(snapshot, e)]
    if not found or not snapshot.knows_all_nodes:
        return
    rates = KnownRates(snapshot.measured, snapshot.limits.store_egress_bytes_per_s or None)
    network = memo.network.network(snapshot, snapshot.fetch_deadlines_s, rates)
    usable = usable_cluster(snapshot, memo)
    for endpoint in found:
        builder.apply_rule(endpoint.model_id, _begin, endpoint.id, network, usable)
        builder.apply_rule(endpoint.model_id, begin_scale_ups, endpoint.id, network, usable)


def _begin(
    snapshot: Snapshot, endpoint_id: str, network: Network, usable: Cluster
) -> Iterator[c.ConsolidationDecision]:
    endpoint = snapshot.endpoints.get(endpoint_id)
    target = None if endpoint is None else target_of(snapshot, endpoint)
    if endpoint is None or endpoint.entry is None or target is None:
        return
    if not may_try(snapshot, endpoint):
        return
    entry, model = endpoint.entry, snapshot.models[endpoint.model_id]
    if not is_possible(snapshot, entry, target, usable.get(entry.node_id)):
        return
    if not has_slack(network, entry.node_id, snapshot.now_s):
        return
    expected_s = duration_s(snapshot, entry, target, network)
    why = reason_to_begin(snapshot, endpoint, model, target, expected_s)
    due = next_transition(None, Situation(reason=why))
    if due is None or why is None:
        return
    yield c.BeginConsolidation(
        model.id,
        endpoint.id,
        _new_id(snapshot, endpoint),
        entry.node_id,
        worker_id=entry.id,
        generation=endpoint.generation + 1,
        fetch_id=derived_id("fetch", snapshot.nonce, f"{endpoint.id}/consolidation"),
        unit_digests=target.lacking_digests,
        num_layers=target.num_layers,
        load_bytes=target.load_bytes,
        freed_bytes=target.freed_bytes,
        kv_bytes=target.kv_bytes,
        expected_s=expected_s,
        timeout_s=timeout_s(expected_s),
        why=why,
    )


def _due(
    snapshot: Snapshot, endpoint: Endpoint, situation: Situation
) -> Iterator[c.ConsolidationDecision]:
    open_, entry = endpoint.consolidation, endpoint.entry
    state = None if open_ is None else open_.state
    due = next_transition(state, situation)
    if due is None or entry is None:
        return
    if due.action is Action.COMPLETE:
        yield from _complete(snapshot, endpoint, due)
        return
    assert open_ is not None, "the others are of one that is under way"
    about = (endpoint.model_id, endpoint.id, open_.id, entry.node_id)
    if due.action is Action.RECORD:
        yield c.RecordConsolidation(*about)
        return
    counts = due.action is Action.ABANDON
    yield c.AbandonConsolidation(*about, why=due.why(situation), counts=counts)


def _complete(
    snapshot: Snapshot, endpoint: Endpoint, due: Transition
) -> Iterator[c.ConsolidationDecision]:
    """Once its manifest is known, which a new leader reads first."""
    entry, seen = endpoint.entry, snapshot.observed.entry(endpoint)
    target = target_of(snapshot, endpoint)
    if entry is None or seen is None or target is None:
        return
    open_ = endpoint.consolidation
    yield c.CompleteConsolidation(
        endpoint.model_id,
        endpoint.id,
        _new_id(snapshot, endpoint) if open_ is None else open_.id,
        entry.node_id,
        worker_id=entry.id,
        generation=seen.generation,
        unit_digests=target.unit_digests,
        num_layers=target.num_layers,
        freed_bytes=target.freed_bytes,
        kv_bytes=target.kv_bytes,
        why=due.meaning,
    )


def _new_id(snapshot: Snapshot, endpoint: Endpoint) -> str:
    return derived_id("consolidation", snapshot.nonce, endpoint.id)
