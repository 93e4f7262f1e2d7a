"""What decisions change in the snapshot: the same that their rows will say. Pure.

A round decides each thing after what it has decided before, and keeps what was carried out for the
next one; the simulator needs nothing else.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from libs.common.cause_words import words
from libs.common.states import (
    EndpointState,
    ModelState,
    StartPurpose,
)
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import (
    Endpoint,
    EndpointFailure,
    OpenRequest,
    Worker,
)
from services.scheduler.policy.consolidation import decisions as c
from services.scheduler.policy.consolidation.effects import moved, separated
from services.scheduler.policy.failures.damaged_objects import damaged_object, reimport_words
from services.scheduler.policy.failures.node_faults import after_fault
from services.scheduler.policy.failures.request_losses import counted
from services.scheduler.policy.persistent import drop, put
from services.scheduler.policy.prefetching.prefetch_effects import after_prefetch
from services.scheduler.policy.scaling.activity_effects import with_activity
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.started_endpoint import started


def after(snapshot: Snapshot, decisions: Iterable[d.Decision]) -> Snapshot:
    """The snapshot once these are carried out, one after the other.

    What becomes of requests is gathered: a thousand of them may be given away in a row.
    """
    requests: dict[str, OpenRequest | None] = {}
    unlisted: list[d.NoteUnlisted] = []
    for decision in decisions:
        if isinstance(decision, d.AssignRequest | d.CountLoss):
            request = requests.get(decision.request_id) or snapshot.requests.get(
                decision.request_id
            )
            if request is not None:
                requests[request.id] = _moved_on(request, decision)
        elif isinstance(decision, d.EndRequest):
            requests[decision.request_id] = None
        elif isinstance(decision, d.NoteUnlisted):
            unlisted.append(decision)
        else:
            before = _with_requests(snapshot, requests)
            snapshot = with_activity(before, _after(before, decision), decision)
            requests = {}
    return _unlisted(_with_requests(snapshot, requests), unlisted)


def _moved_on(request: OpenRequest, decision: d.AssignRequest | d.CountLoss) -> OpenRequest:
    if isinstance(decision, d.CountLoss):
        return counted(request, decision.endpoint_id, decision.kind)
    return replace(request, endpoint_id=decision.endpoint_id)


def _with_requests(snapshot: Snapshot, changes: dict[str, OpenRequest | None]) -> Snapshot:
    return snapshot.changed(requests=snapshot.requests.updated(changes)) if changes else snapshot


def _after(snapshot: Snapshot, decision: d.Decision) -> Snapshot:
    match decision:
        case d.StartEndpoint(model_id=model_id):
            snapshot = snapshot.changed(queue=snapshot.queue.wait(model_id, None))
            if decision.fetch_deadline_s is not None:
                deadlines = put(
                    snapshot.fetch_deadlines_s, decision.endpoint_id, decision.fetch_deadline_s
                )
                snapshot = snapshot.changed(fetch_deadlines_s=deadlines)
            return _with_endpoint(snapshot, started(snapshot, decision))
        case d.FailEndpoint():
            return _failed(snapshot, decision)
        case d.ServeEndpoint():
            return _serving(snapshot, decision)
        case d.ClaimRoom(plan=plan, is_held=is_held):
            claim = snapshot.queue.hold if is_held else snapshot.queue.claim
            return snapshot.changed(queue=claim(decision.model_id, plan))
        case d.Wait(model_id=model_id, reason=reason):
            return snapshot.changed(queue=snapshot.queue.wait(model_id, reason))
        case d.EndCommand(model_id=model_id, command_id=command_id):
            left = tuple(c for c in snapshot.commands.get(model_id, ()) if c.id != command_id)
            commands = snapshot.commands
            changed = put(commands, model_id, left) if left else drop(commands, model_id)
            return snapshot.changed(commands=changed)
        case d.StartPrefetch() | d.EndPrefetch() | d.DeferPrefetch():
            return after_prefetch(snapshot, decision)
        case d.SkipModel() | d.SkipNode():
            return snapshot
    endpoint = snapshot.endpoints.get(getattr(decision, "endpoint_id", None))
    return snapshot if endpoint is None else _after_move(snapshot, endpoint, decision)


def _after_move(snapshot: Snapshot, endpoint: Endpoint, decision: d.Decision) -> Snapshot:
    match decision:
        case d.RecordWorker(observed=seen):
            changes = {
                "state": seen.state,
                "address": seen.address,
                "public_key": seen.public_key,
            }
            return _with_endpoint(snapshot, _with_worker(endpoint, seen.worker_id, **changes))
        case d.EndWorker(worker_id=worker_id):
            staying = tuple(worker for worker in endpoint.workers if worker.id != worker_id)
            return _with_endpoint(snapshot, replace(endpoint, workers=staying))
        case d.ConnectWorker(worker_id=worker_id):
            return _with_endpoint(snapshot, _with_worker(endpoint, worker_id, is_connected=True))
        case d.LaunchWorker(worker_id=worker_id):
            return _with_endpoint(snapshot, _with_worker(endpoint, worker_id, is_launch_due=True))
        case d.DrainEndpoint():
            return _with_endpoint(snapshot, replace(endpoint, state=EndpointState.DRAINING))
        case d.StopWorkers():
            return _with_endpoint(
                snapshot, replace(_released(endpoint), state=EndpointState.DRAINING)
            )
        case d.FinishEndpoint():
            return _with_endpoint(snapshot, replace(endpoint, state=EndpointState.STOPPED))
        case d.HurryStart():
            return _with_endpoint(snapshot, replace(endpoint, purpose=StartPurpose.REQUEST))
        case d.MarkBusy():
            return _with_endpoint(snapshot, replace(endpoint, idle_since_s=None))
        case d.MarkIdle(idle_s=idle_s):
            since_s = snapshot.now_s - idle_s
            return _with_endpoint(snapshot, replace(endpoint, idle_since_s=since_s))
        case d.RenewKeepAlive():
            return _with_endpoint(snapshot, replace(endpoint, idle_since_s=snapshot.now_s))
        case c.CompleteConsolidation():
            # What its other workers felt of each other's end is nothing any more.
            echoes = drop(snapshot.echoes_since_s, endpoint.id)
            alone = moved(endpoint, decision, snapshot.now_s)
            return _with_endpoint(snapshot, alone).changed(echoes_since_s=echoes)
        case c.SeparateWorker():
            return _separated(snapshot, endpoint, decision)
        case c.ConsolidationDecision():
            return _with_endpoint(snapshot, moved(endpoint, decision, snapshot.now_s))
        case d.AwaitRootCause():
            if endpoint.id in snapshot.echoes_since_s:
                return snapshot
            echoes = put(snapshot.echoes_since_s, endpoint.id, snapshot.now_s)
            return snapshot.changed(echoes_since_s=echoes)
        case d.RecordStartActivity(activity=activity):
            activities = put(snapshot.start_activities, endpoint.id, activity)
            return snapshot.changed(start_activities=activities)
    raise AssertionError(f"no effect is known of {decision}")


def _separated(snapshot: Snapshot, endpoint: Endpoint, decision: c.SeparateWorker) -> Snapshot:
    worker = next(worker for worker in endpoint.workers if worker.id == decision.worker_id)
    child = separated(endpoint, worker, decision)
    left = _with_endpoint(snapshot, moved(endpoint, decision, snapshot.now_s))
    return _with_endpoint(left, child)


def _serving(snapshot: Snapshot, decision: d.ServeEndpoint) -> Snapshot:
    endpoint = snapshot.endpoints.get(decision.endpoint_id)
    if endpoint is None:
        return snapshot
    is_alone = endpoint.num_stages == 1
    serving = replace(
        endpoint,
        state=EndpointState.STANDALONE if is_alone else EndpointState.PIPELINED,
        has_been_ready=True,
        idle_since_s=snapshot.now_s if decision.is_idle else None,
        ready_since_s=snapshot.now_s,
    )
    snapshot = _without_deadline(snapshot, endpoint.id)
    model = snapshot.models[decision.model_id]
    forgiven = replace(model, num_failed_starts=0, backoff_until_s=None)
    return _with_endpoint(snapshot, serving).changed(
        models=put(snapshot.models, model.id, forgiven),
        node_faults=drop(snapshot.node_faults, model.id),
    )


def _failed(snapshot: Snapshot, decision: d.FailEndpoint) -> Snapshot:
    endpoint = snapshot.endpoints.get(decision.endpoint_id)
    if endpoint is None:
        return snapshot
    failed = replace(_released(endpoint), state=EndpointState.FAILED)
    failure = EndpointFailure(
        endpoint.id,
        endpoint.model_id,
        snapshot.now_s,
        words(decision.cause),
        decision.suspect_nodes,
        decision.cause.fault,
        endpoint.has_been_ready,
    )
    changed: dict[str, Any] = {"failures": snapshot.failures.updated({endpoint.id: failure})}
    model = snapshot.models.get(decision.model_id)
    if decision.backoff is not None and model is not None:
        backing_off = replace(
            model,
            num_failed_starts=decision.backoff.num_failed_starts,
            backoff_until_s=snapshot.now_s + decision.backoff.delay_s,
        )
        changed["models"] = put(snapshot.models, model.id, backing_off)
        model = backing_off
    key = damaged_object(decision.cause)
    if key is not None and model is not None and model.state is ModelState.READY:
        again = replace(model, state=ModelState.IMPORTING, cause=reimport_words(key))
        changed["models"] = put(snapshot.models, model.id, again)
    fault = decision.node_fault
    if fault is not None:
        before = snapshot.node_faults.get(fault.model_id)
        series = after_fault(before, fault, snapshot.now_s)
        changed["node_faults"] = put(snapshot.node_faults, fault.model_id, series)
    return _with_endpoint(snapshot, failed).changed(**changed)


def _unlisted(snapshot: Snapshot, decisions: list[d.NoteUnlisted]) -> Snapshot:
    if not decisions:
        return snapshot
    since_s = snapshot.unlisted_since_s
    for decision in decisions:
        if decision.is_listed:
            since_s = drop(since_s, decision.request_id)
        elif decision.request_id not in since_s:
            since_s = put(since_s, decision.request_id, snapshot.now_s)
    return snapshot.changed(unlisted_since_s=since_s)


def _without_deadline(snapshot: Snapshot, endpoint_id: str) -> Snapshot:
    if endpoint_id not in snapshot.fetch_deadlines_s:
        return snapshot
    return snapshot.changed(fetch_deadlines_s=drop(snapshot.fetch_deadlines_s, endpoint_id))


def _released(endpoint: Endpoint) -> Endpoint:
    workers = tuple(_ended(worker) for worker in endpoint.workers)
    return replace(endpoint, workers=workers)


def _ended(worker: Worker) -> Worker:
    """It is to end, and becomes nothing else."""
    return replace(worker, is_desired=False, consolidation=None)


def _with_worker(endpoint: Endpoint, worker_id: str, **changes: Any) -> Endpoint:
    workers = tuple(
        replace(worker, **changes) if worker.id == worker_id else worker
        for worker in endpoint.workers
    )
    return replace(endpoint, workers=workers)


def _with_endpoint(snapshot: Snapshot, endpoint: Endpoint) -> Snapshot:
    """An endpoint that has ended stays as long as any worker of it holds memory."""
    is_over = endpoint.state.is_finished and not endpoint.workers
    if not endpoint.state.can_take_requests:
        snapshot = _without_deadline(snapshot, endpoint.id)
    changed = snapshot.endpoints.updated({endpoint.id: None if is_over else endpoint})
    if not is_over:
        return snapshot.changed(endpoints=changed)
    return snapshot.changed(
        endpoints=changed,
        echoes_since_s=drop(snapshot.echoes_since_s, endpoint.id),
        start_activities=drop(snapshot.start_activities, endpoint.id),
        losses=drop(snapshot.losses, endpoint.id),
    )
