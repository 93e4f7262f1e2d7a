"""What a round looks at: what has changed, and in a sweep what time alone makes due. Pure.

The first sweep looks at everything. Those after it look at endpoints that start, end, or become one
worker; at those of nodes that are silent, or were a moment ago; at those whose workers have worked
since; and at each when its keep-alive is over. Whatever changes with nothing of that is noticed
when its endpoint's time comes, within `MAX_UNSEEN_S`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from zlib import crc32

from libs.common.bus.messages import WorkerObserved
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.idleness import ROW_TOLERANCE_S
from services.scheduler.policy.scaling.kept import kept_for_s
from services.scheduler.policy.scope.sweep_state import SweepState
from services.scheduler.policy.snapshot import Snapshot

MAX_UNSEEN_S = 240.0  # each endpoint is looked at by then, and by half of it at the earliest
HEARTBEAT_SLACK_S = 3.0  # what was said at a sweep may be that old

_OF_THE_QUEUE = (d.Wait, d.ClaimRoom)  # what is waited for changes nothing of a model


@dataclass(frozen=True)
class Scope:
    """Ids of what a round looks at."""

    endpoints: tuple[str, ...]
    waiting: tuple[str, ...]  # models with requests that wait
    models: tuple[str, ...]  # those, and those of the endpoints


def scope_of(snapshot: Snapshot, changed: Changed) -> Scope:
    endpoints = _endpoints(snapshot, changed)
    waiting = _waiting(snapshot, changed)
    models = waiting.union(snapshot.endpoints[id_].model_id for id_ in endpoints)
    if changed.is_sweep:
        models.update(snapshot.requests.keys_of("lossy"))
    return Scope(tuple(endpoints), tuple(sorted(waiting)), tuple(sorted(models)))


def waiting_models(snapshot: Snapshot) -> set[str]:
    """Whose requests are queued, or were given to an endpoint that failed."""
    found = set(snapshot.requests.keys_of("queue"))
    for failure in snapshot.failures:
        found.update(r.model_id for r in snapshot.requests.by("endpoint", failure.endpoint_id))
    return found


def _waiting(snapshot: Snapshot, changed: Changed) -> set[str]:
    """Of a model of which nothing has changed, and nothing was decided, only a slot of an endpoint
    may have come free."""
    waiting, swept = waiting_models(snapshot), snapshot.swept
    is_more = changed.is_sweep or changed.is_continued
    if swept is None:
        return waiting if is_more else waiting & changed.models
    again = set(changed.models)
    if is_more:
        again |= swept.decided_models
    if changed.is_sweep:
        again |= {id_ for id_ in waiting if snapshot.endpoints.count("model", id_)}
    return waiting & again


def _endpoints(snapshot: Snapshot, changed: Changed) -> list[str]:
    """In a sweep the oldest first."""
    if changed.is_sweep and snapshot.swept is None:
        return [endpoint.id for endpoint in snapshot.endpoints]
    found = dict.fromkeys(id_ for id_ in sorted(changed.endpoints) if id_ in snapshot.endpoints)
    found |= dict.fromkeys(_of_any(snapshot, "node", sorted(changed.nodes)))
    found |= dict.fromkeys(
        endpoint.id
        for node_id in sorted(changed.spoke)
        for endpoint in snapshot.endpoints.by("node", node_id)
        if not endpoint.state.is_serving or _lacks_worker(snapshot, endpoint, node_id)
    )
    found |= dict.fromkeys(_of_any(snapshot, "model", sorted(changed.models)))
    if changed.is_sweep and snapshot.swept is not None:
        found |= dict.fromkeys(_due(snapshot, snapshot.swept))
        return snapshot.endpoints.in_order(found)
    return list(found)


def _lacks_worker(snapshot: Snapshot, endpoint: Endpoint, node_id: str) -> bool:
    """Whether the node does not speak of one that it shall run: once it has accepted that, the
    worker has vanished."""
    own = (worker for worker in endpoint.workers if worker.node_id == node_id)
    return any(snapshot.observed.worker(worker) is None for worker in own)


def _of_any(snapshot: Snapshot, index: str, keys: Iterable[str]) -> list[str]:
    return [endpoint.id for key in keys for endpoint in snapshot.endpoints.by(index, key)]


def _due(snapshot: Snapshot, swept: SweepState) -> list[str]:
    """What time alone may have made due since the last sweep."""
    return [
        *snapshot.endpoints.ids("unsettled", ""),
        *snapshot.endpoints.ids("consolidating", ""),
        *snapshot.echoes_since_s,
        *swept.due(snapshot.now_s),
        *_of_any(snapshot, "node", _silent_nodes(snapshot) | swept.silent_nodes),
        *_of_any(snapshot, "model", swept.skipped_models),
        *_worked(snapshot, snapshot.now_s - swept.swept_at_s + HEARTBEAT_SLACK_S),
    ]


def _silent_nodes(snapshot: Snapshot) -> frozenset[str]:
    """Nodes with workers of which a service is silent, or was never heard."""
    observed, node_ids = snapshot.observed, snapshot.endpoints.keys_of("node")
    agents, fetchers = observed.agents, observed.fetchers
    never_heard = {id_ for id_ in node_ids if id_ not in agents or id_ not in fetchers}
    return frozenset(never_heard | observed.silent_nodes(snapshot.limits.node_quiet_s))


def _worked(snapshot: Snapshot, within_s: float) -> list[str]:
    """Endpoints whose workers rest again after work that nobody else told of: between two
    heartbeats, or for a request that never passed the scheduler."""
    rows, within_ms = snapshot.endpoints.rows, 1000 * within_s
    return [
        seen.endpoint_id
        for heard in snapshot.observed.agents.values()
        for seen in heard.heartbeat.workers
        if seen.idle_ms < within_ms
        and not (seen.num_running or seen.num_waiting)
        and _differs(rows.get(seen.endpoint_id), seen, heard.at_s - seen.idle_ms / 1000)
    ]


def _differs(endpoint: Endpoint | None, seen: WorkerObserved, idle_since_s: float) -> bool:
    """Whether the entry says that it is idle since later than the row."""
    if endpoint is None or not endpoint.state.is_serving:
        return False
    row_s = endpoint.idle_since_s
    if row_s is not None and idle_since_s - row_s <= ROW_TOLERANCE_S:
        return False
    return endpoint.entry is not None and endpoint.entry.id == seen.worker_id


def state_after(
    snapshot: Snapshot, changed: Changed, scope: Scope, decisions: Iterable[d.Decision]
) -> SweepState | None:
    """For the rounds to come. `snapshot`: once the decisions are carried out."""
    before = snapshot.swept
    if before is None and not changed.is_sweep:
        return None
    decided = {getattr(x, "endpoint_id", None) or "" for x in decisions}
    skipped = frozenset(x.model_id for x in decisions if isinstance(x, d.SkipModel))
    models = frozenset(x.model_id for x in decisions if not isinstance(x, _OF_THE_QUEUE))
    state = before or SweepState(snapshot.now_s)
    looked = {id_: _look_at_s(snapshot, state, id_) for id_ in scope.endpoints}
    # What was decided about one may lead to more: the next sweep looks.
    again = {id_: snapshot.now_s if _serves(snapshot, id_) else None for id_ in decided}
    looks = state.with_looks({**looked, **again})
    if changed.is_sweep:
        silent = _silent_nodes(snapshot)
        return SweepState(snapshot.now_s, looks, silent, skipped, models)
    return replace(
        state,
        looks=looks,
        skipped_models=state.skipped_models | skipped,
        decided_models=state.decided_models | models,
    )


def _serves(snapshot: Snapshot, endpoint_id: str) -> bool:
    endpoint = snapshot.endpoints.get(endpoint_id)
    return endpoint is not None and endpoint.state.is_serving


def _look_at_s(snapshot: Snapshot, state: SweepState, endpoint_id: str) -> float | None:
    """None: it is gone, or each sweep looks at it."""
    endpoint, now_s = snapshot.endpoints.get(endpoint_id), snapshot.now_s
    if endpoint is None or not endpoint.state.is_serving:
        return None  # an index has it, or nobody
    model, due_s = snapshot.models.get(endpoint.model_id), inf
    if model is not None and endpoint.idle_since_s is not None:
        kept_s = kept_for_s(snapshot, endpoint, model, endpoint.idle_since_s)
        due_s = max(endpoint.idle_since_s + kept_s, now_s)
    known = state.looks.get(endpoint_id)
    if known is not None and now_s < known.at_s <= due_s:
        return known.at_s
    spread = (1 + crc32(endpoint_id.encode()) / 2**32) / 2
    return min(due_s, now_s + spread * MAX_UNSEEN_S)
