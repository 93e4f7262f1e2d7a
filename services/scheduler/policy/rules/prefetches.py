"""Fetches the weights of models that may be asked soon into host caches. Pure.

An endpoint that is started ahead holds a device; weights in a host cache only memory of the host,
and the next start then takes as long as its launch. So this is for whoever is not worth an endpoint
ahead, for whom there is no room, or whose time has not come. It comes after all that somebody waits
for, in sweeps alone, and takes what is free (`cache_share.py`).
"""

from collections.abc import Iterator
from math import inf

from libs.common.states import ModelState, PrefetchState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.network.known_rates import KnownRates
from services.scheduler.policy.planning.round_room import RoundRoom
from services.scheduler.policy.planning.usable_cluster import NodeMemo, usable_cluster
from services.scheduler.policy.prefetching.cache_share import busy_nodes, refusal
from services.scheduler.policy.prefetching.prefetch import Prefetch
from services.scheduler.policy.prefetching.prefetch_plan import (
    PrefetchPlan,
    prefetch_plan,
    prefetches_of,
)
from services.scheduler.policy.rules.prefetch_ends import end_prefetch
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.snapshot import Snapshot

MAX_PLANNED = 4  # models of one sweep
MAX_TRIES = 3  # plans of a model, each without the nodes that refused the one before
LOOK_AGAIN_S = 30.0  # at a model of which nothing was to be prefetched
BUSY_S = 5.0  # the same, where others were in the way
LEAD = 2.0  # times the predicted fetch: others may come in between


def follow_prefetches(builder: DecisionBuilder, memo: NodeMemo) -> None:
    """End those whose time has come, and begin others."""
    snapshot = builder.snapshot
    due = sorted(filter(lambda id_: _is_due(snapshot, id_), snapshot.prefetchable))
    if not due and not len(snapshot.prefetches):
        return
    usable = usable_cluster(snapshot, memo)
    for prefetch in snapshot.prefetches:
        node = usable.get(prefetch.node_id)
        builder.apply_rule(prefetch.model_id, end_prefetch, prefetch, node)
    if not due or not snapshot.knows_all_nodes:
        return  # another node may have the weights
    rates = KnownRates(snapshot.measured, snapshot.limits.store_egress_bytes_per_s or None)
    network = memo.network.network(snapshot, snapshot.fetch_deadlines_s, rates)
    room = RoundRoom(builder.snapshot, usable, memo.known_devices, network)
    due.sort(key=lambda id_: (builder.snapshot.activities[id_].expected_at_s or inf, id_))
    for model_id in due[:MAX_PLANNED]:
        if room.cost.num_devices >= snapshot.limits.planning_budget_devices / 2:
            return
        if _num_running(builder.snapshot) >= snapshot.limits.max_prefetches:
            return
        builder.apply_rule(model_id, _prefetch, model_id, room)


def end_prefetches_of_started(builder: DecisionBuilder) -> None:
    """In the round in which an endpoint starts: it may have gone before the next sweep."""
    starts = [x for x in builder.decisions if isinstance(x, d.StartEndpoint)]
    for model_id in dict.fromkeys(start.model_id for start in starts):
        for prefetch in builder.snapshot.prefetches.by("model", model_id):
            builder.apply_rule(model_id, end_prefetch, prefetch, None)


def _is_due(snapshot: Snapshot, model_id: str) -> bool:
    """Whether it is to be looked at: its time has come, it has no endpoint, and nobody waits."""
    now_s, model = snapshot.now_s, snapshot.models.get(model_id)
    if model is None or model.state is not ModelState.READY or not model.is_keep_alive_auto:
        return False
    if model.backs_off(now_s) or snapshot.prefetch_looks_s.get(model_id, -inf) > now_s:
        return False
    if snapshot.prefetches.count("model", model_id) or not snapshot.knows_cached(model_id):
        return False
    if not _is_in_time(snapshot.activities.get(model_id), now_s):
        return False
    live = (e.state.can_take_requests for e in snapshot.endpoints.by("model", model_id))
    demand = snapshot.demand(model_id)
    return not any(live) and not demand.num_waiting + demand.num_unheard


def _is_in_time(activity: ModelActivity | None, now_s: float) -> bool:
    if activity is None:
        return False
    from_s, until_s = activity.prefetch_at_s, activity.prefetch_until_s
    return from_s is not None and until_s is not None and from_s <= now_s < until_s


def _prefetch(snapshot: Snapshot, model_id: str, room: RoundRoom) -> Iterator[d.Decision]:
    """Where it would start, or else where it could: a node that prefetches already does so for one
    model after the other."""
    deployable = snapshot.deployable(snapshot.models[model_id])
    if deployable is None:
        yield _defer(snapshot, model_id, "its manifest is not known yet", BUSY_S)
        return
    without, why = set[str](), "there is no room that it could start in"
    for _ in range(MAX_TRIES):
        plan = prefetch_plan(snapshot, deployable, room, without)
        if plan is None:
            break
        deferred = _deferred(snapshot, deployable, plan)
        if deferred is not None:
            yield deferred
            return
        found = list(_found(snapshot, deployable, plan))
        refused = _refused(snapshot, found, room)
        if not refused:
            yield from _starts(snapshot, found, plan)
            return
        without |= refused.keys() | busy_nodes(snapshot.prefetches, snapshot.limits)
        without = {id_ for id_ in without if id_ in room.usable.layout.row_of}
        why = next(iter(refused.values()))
    yield _defer(snapshot, model_id, why, BUSY_S if without else LOOK_AGAIN_S)


def _deferred(
    snapshot: Snapshot, deployable: Deployable, plan: PrefetchPlan
) -> d.DeferPrefetch | None:
    """Why nothing of it is fetched now; None: it is to be fetched."""
    model_id, now_s = deployable.model.id, snapshot.now_s
    why = _why_not(snapshot.activities[model_id], plan, now_s)
    if why is not None:
        return _defer(snapshot, model_id, why)
    begin_s = (snapshot.activities[model_id].expected_at_s or inf) - LEAD * plan.fetch_s
    if now_s >= begin_s:
        return None
    wait_s = min(LOOK_AGAIN_S, begin_s - now_s)
    return _defer(snapshot, model_id, "its fetch need not begin yet", wait_s)


def _why_not(activity: ModelActivity, plan: PrefetchPlan, now_s: float) -> str | None:
    window, until_s = activity.window, activity.prefetch_until_s
    assert window is not None and until_s is not None, "it is expected"
    if plan.is_cached:
        return "its weights are in host caches already"
    if now_s + plan.fetch_s >= until_s:
        return "its fetch would be done too late"
    if not plan.benefit.counting_s:
        return "it starts in time also without them"
    if not plan.benefit.is_worth(window, plan.fetch_s):
        return "it would hold memory for longer than the start that it saves is worth"
    return None


def _found(snapshot: Snapshot, deployable: Deployable, plan: PrefetchPlan) -> Iterator[Prefetch]:
    until_s = snapshot.activities[deployable.model.id].prefetch_until_s
    assert until_s is not None, "it is expected"
    return prefetches_of(snapshot, deployable, plan, until_s)


def _refused(snapshot: Snapshot, found: list[Prefetch], room: RoundRoom) -> dict[str, str]:
    """Why, by node. All that is missing is fetched, or nothing: a pipeline starts with the last of
    its stages."""
    limits = snapshot.limits
    if _num_running(snapshot) + len(found) > limits.max_prefetches:
        why = "other models' weights are prefetched"
        return {prefetch.node_id: why for prefetch in found}
    refused = {}
    for prefetch in found:
        node = room.usable.get(prefetch.node_id)
        assert node is not None, "its plan is of usable nodes"
        why_not = refusal(node, prefetch.file_bytes, snapshot.prefetches, limits)
        if why_not is not None:
            refused[node.id] = why_not
    return refused


def _num_running(snapshot: Snapshot) -> int:
    return snapshot.prefetches.count("state", PrefetchState.RUNNING.value)


def _starts(
    snapshot: Snapshot, found: list[Prefetch], plan: PrefetchPlan
) -> Iterator[d.StartPrefetch]:
    for prefetch in found:
        expected_at_s = snapshot.activities[prefetch.model_id].expected_at_s or inf
        expected_s = max(0.0, expected_at_s - snapshot.now_s)
        why = f"it is expected in {expected_s:.0f} s, and its fetch takes {plan.fetch_s:.0f} s"
        yield d.StartPrefetch(prefetch.model_id, prefetch, why)


def _defer(
    snapshot: Snapshot, model_id: str, why: str, wait_s: float = LOOK_AGAIN_S
) -> d.DeferPrefetch:
    return d.DeferPrefetch(model_id, snapshot.now_s + wait_s, why)
