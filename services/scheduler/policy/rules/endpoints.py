"""Keeps endpoints and workers in step with what the nodes report, and moves them on. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.states import (
    ConsolidationState,
    EndpointState,
    FetchState,
    ModelState,
    StartPurpose,
    WorkerState,
)
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, Model, Worker
from services.scheduler.policy.endpoint_lifecycle import (
    Action,
    DueAction,
    Situation,
    due_action,
)
from services.scheduler.policy.failures import backoff
from services.scheduler.policy.failures.diagnosis import Finding, Gone, Present, diagnose
from services.scheduler.policy.failures.failure_attribution import RootCause, find_root
from services.scheduler.policy.failures.node_faults import NodeFault
from services.scheduler.policy.failures.start_stall import StartActivity, start_activity
from services.scheduler.policy.idleness import Idleness, idleness
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning.memory import context_tokens
from services.scheduler.policy.rules.endpoint_needs import is_abandoned, is_idle_for_long
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.start_progress import StartProgress, start_progress


@dataclass(frozen=True)
class Diagnosed:
    """An endpoint with a finding about each of its workers."""

    endpoint: Endpoint
    findings: dict[str, Finding]  # by worker
    quiet_nodes: frozenset[str]

    @cached_property
    def present(self) -> tuple[WorkerObserved, ...]:
        """Of the members, in the order of the stages."""
        found = (self.findings.get(member.worker_id) for member in self.endpoint.members)
        return tuple(finding.observed for finding in found if isinstance(finding, Present))

    @property
    def are_all_gone(self) -> bool:
        return all(isinstance(finding, Gone) for finding in self.findings.values())

    @cached_property
    def root(self) -> RootCause | None:
        """Of an unlawful loss: of a member. Others may come and go."""
        members = self.endpoint.member_workers
        findings = [self.findings[worker.id] for worker in members]
        return find_root(members, findings, self.quiet_nodes)

    def are_all(self, state: WorkerState) -> bool:
        """One that was part of another endpoint may not have heard yet that it is of this one."""
        present, endpoint_id = self.present, self.endpoint.id
        is_whole = len(present) == self.endpoint.num_stages
        return is_whole and all(
            seen.state is state and seen.endpoint_id == endpoint_id for seen in present
        )


def reconcile_endpoint(snapshot: Snapshot, endpoint: Endpoint) -> Iterator[d.Decision]:
    """Every finding about its workers, and its next move."""
    diagnosed, model = diagnosis_of(snapshot, endpoint), snapshot.models[endpoint.model_id]
    root = diagnosed.root
    if root is not None and _is_unsettled(diagnosed, root) and _may_change(snapshot, endpoint):
        yield d.AwaitRootCause(model.id, endpoint.id)
        return
    yield from _findings(diagnosed)
    idle = idleness(snapshot, endpoint, diagnosed.present)
    yield from _idleness(snapshot, endpoint, idle)
    moved = _activity(snapshot, diagnosed)
    if moved is not None and moved != snapshot.start_activities.get(endpoint.id):
        yield d.RecordStartActivity(model.id, endpoint.id, moved)
    situation = _situation(snapshot, diagnosed, model, idle, moved)
    due = due_action(endpoint, situation)
    if due is not None:
        yield _decision(snapshot, endpoint, model, due)


def diagnosis_of(snapshot: Snapshot, endpoint: Endpoint) -> Diagnosed:
    observed = snapshot.observed
    reports = {w.node_id: snapshot.report_of(w.node_id) for w in endpoint.workers}
    findings = {
        worker.id: diagnose(
            worker, reports[worker.node_id], observed.worker(worker), observed.fetch(worker)
        )
        for worker in endpoint.workers
    }
    quiet = frozenset(node_id for node_id, report in reports.items() if report.is_quiet)
    return Diagnosed(endpoint, findings, quiet)


def progress_of(snapshot: Snapshot, endpoint: Endpoint) -> StartProgress:
    return start_progress([snapshot.observed.fetch(w) for w in endpoint.member_workers])


def _is_unsettled(diagnosed: Diagnosed, root: RootCause) -> bool:
    """Also while an entry copies, and nothing is wrong with itself: it may have switched already,
    and then the end of another one is no loss."""
    endpoint = diagnosed.endpoint
    open_, entry = endpoint.consolidation, endpoint.entry
    if open_ is None or open_.state is not ConsolidationState.COPYING or entry is None:
        return not root.is_certain
    is_sound = isinstance(diagnosed.findings[entry.id], Present)
    return not root.is_certain or (is_sound and root.guilty_id != entry.id)


def _may_change(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    """A better root may still be heard of: whoever ended first may be reported last, because its
    agent has its exit and another one the echo."""
    since_s = snapshot.echoes_since_s.get(endpoint.id, snapshot.now_s)
    return snapshot.now_s - since_s < snapshot.limits.echo_grace_s


def _findings(diagnosed: Diagnosed) -> Iterator[d.Decision]:
    endpoint = diagnosed.endpoint
    for worker in endpoint.workers:
        finding = diagnosed.findings[worker.id]
        if isinstance(finding, Gone):
            yield d.EndWorker(
                endpoint.model_id, endpoint.id, worker.id, worker.node_id, finding.cause
            )
        elif isinstance(finding, Present) and _has_changed(worker, finding.observed):
            yield d.RecordWorker(endpoint.model_id, endpoint.id, finding.observed)


def _has_changed(worker: Worker, observed: WorkerObserved) -> bool:
    return (worker.state, worker.public_key) != (observed.state, observed.public_key)


def _idleness(snapshot: Snapshot, endpoint: Endpoint, idle: Idleness) -> Iterator[d.Decision]:
    if idle.is_busy and endpoint.idle_since_s is not None:
        yield d.MarkBusy(endpoint.model_id, endpoint.id)
    elif idle.differs_from_row:
        assert idle.idle_s is not None
        yield d.MarkIdle(endpoint.model_id, endpoint.id, idle.idle_s)


def _activity(snapshot: Snapshot, diagnosed: Diagnosed) -> StartActivity | None:
    endpoint = diagnosed.endpoint
    if endpoint.state is not EndpointState.STARTING:
        return None
    fetches = [snapshot.observed.fetch(worker) for worker in endpoint.member_workers]
    if endpoint.purpose is not StartPurpose.REQUEST and not _are_complete(fetches):
        # Its fetches stand back for those that somebody waits for, whatever time these take.
        fetches += _all_fetches(snapshot, endpoint)
    before = snapshot.start_activities.get(endpoint.id)
    return start_activity(before, diagnosed.present, fetches, snapshot.now_s)


def _are_complete(fetches: Sequence[FetchObserved | None]) -> bool:
    return all(fetch is not None and fetch.state is FetchState.COMPLETE for fetch in fetches)


def _all_fetches(snapshot: Snapshot, endpoint: Endpoint) -> Iterator[FetchObserved]:
    """Of the endpoint's nodes."""
    for node_id in sorted({worker.node_id for worker in endpoint.member_workers}):
        heard = snapshot.observed.fetchers.get(node_id)
        yield from () if heard is None else heard.heartbeat.fetches


def _situation(
    snapshot: Snapshot,
    diagnosed: Diagnosed,
    model: Model,
    idle: Idleness,
    moved: StartActivity | None,
) -> Situation:
    endpoint, root = diagnosed.endpoint, diagnosed.root
    demand, progress = snapshot.demand(model.id), progress_of(snapshot, endpoint)
    nothing_runs = all(w.num_running + w.num_waiting == 0 for w in diagnosed.present)
    has_requests = snapshot.num_assigned(endpoint.id) > 0
    limit_s = snapshot.limits.start_timeout_s
    is_stuck = moved is not None and snapshot.now_s - moved.at_s > limit_s
    return Situation(
        failure=root.cause if root else None,
        guilty_id=root.guilty_id if root else None,
        are_all_ready=diagnosed.are_all(WorkerState.READY),
        are_all_gone=diagnosed.are_all_gone,
        is_stuck=is_stuck,
        progress=_describe(diagnosed, progress) if is_stuck else "",
        has_stale_context=has_stale_context(snapshot, endpoint, model),
        is_unwanted=model.state is ModelState.DELETING
        or is_abandoned(snapshot, endpoint, model, demand, progress),
        is_idle_for_long=is_idle_for_long(snapshot, endpoint, idle, model, demand),
        is_drained=not has_requests and nothing_runs and diagnosed.are_all(WorkerState.DRAINING),
    )


def has_stale_context(snapshot: Snapshot, endpoint: Endpoint, model: Model) -> bool:
    """It started with a shorter context than its model has by now. Gateways promise what the
    model's row says, so it would refuse some of the requests, or cut their answers."""
    summary = snapshot.summary(model)
    if endpoint.context_tokens is None or summary is None:
        return False
    return endpoint.context_tokens < context_tokens(model, summary)


def _describe(diagnosed: Diagnosed, progress: StartProgress) -> str:
    states = ", ".join(f"{o.worker_id} {o.state}" for o in diagnosed.present) or "no worker seen"
    if progress.bytes_total is None:
        return f"{states}; its fetch was not seen"
    return f"{states}; {progress.bytes_done} of {progress.bytes_total} bytes fetched"


def _decision(snapshot: Snapshot, endpoint: Endpoint, model: Model, due: DueAction) -> d.Decision:
    match due.action:
        case Action.FAIL:
            return _failure(snapshot, endpoint, model, due)
        case Action.SERVE:
            fetches = [snapshot.observed.fetch(worker) for worker in endpoint.member_workers]
            from_cache = sum(fetch.bytes_from_cache for fetch in fetches if fetch is not None)
            is_idle = snapshot.num_assigned(endpoint.id) == 0
            return d.ServeEndpoint(model.id, endpoint.id, from_cache, is_idle)
        case Action.STOP:
            return d.FinishEndpoint(model.id, endpoint.id)
        case Action.DRAIN:
            return d.DrainEndpoint(model.id, endpoint.id, due.meaning)
        case Action.RELEASE:
            return d.StopWorkers(model.id, endpoint.id, due.cause)


def _failure(
    snapshot: Snapshot, endpoint: Endpoint, model: Model, due: DueAction
) -> d.FailEndpoint:
    """A failed start is counted against its model, unless its nodes are to blame."""
    assert due.cause is not None, "a failure has a cause"
    series, fault = None, None
    if not endpoint.has_been_ready and not due.cause.counts_against_model:
        fault = _node_fault(endpoint, due)
    elif not endpoint.has_been_ready:
        until_s = model.backoff_until_s
        remaining_s = None if until_s is None else until_s - snapshot.now_s
        series = backoff.after_failure(model.num_failed_starts, remaining_s)
    suspects = frozenset(w.node_id for w in endpoint.workers if w.id == due.guilty_id)
    return d.FailEndpoint(
        *(model.id, endpoint.id, due.cause, due.guilty_id, suspects, series, fault)
    )


def _node_fault(endpoint: Endpoint, due: DueAction) -> NodeFault:
    guilty = [worker for worker in endpoint.workers if worker.id == due.guilty_id]
    node_ids = frozenset(worker.node_id for worker in guilty or endpoint.workers)
    return NodeFault(endpoint.model_id, endpoint.id, node_ids)
