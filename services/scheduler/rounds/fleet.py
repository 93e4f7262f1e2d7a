"""Keeps endpoints and workers in step with what the nodes report, and moves them on."""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.common.bus.messages import WorkerObserved
from libs.common.states import EndpointState, ModelState, WorkerState
from services.scheduler.policy.cluster import Demand, Endpoint, Model, Worker
from services.scheduler.policy.diagnosis import Finding, Gone, Present, diagnose
from services.scheduler.policy.endpoint_lifecycle import Situation, judge
from services.scheduler.policy.failure_attribution import EchoWatch, RootCause, find_root
from services.scheduler.policy.idleness import Idleness, idleness
from services.scheduler.policy.start_deadline import StartWatch
from services.scheduler.policy.start_progress import StartProgress, start_progress
from services.scheduler.rounds.moves import make_move
from services.scheduler.rounds.round import Round
from services.scheduler.store import endpoints


@dataclass(frozen=True)
class Diagnosed:
    endpoint: Endpoint
    findings: tuple[Finding, ...]  # of its workers, in their order
    quiet_nodes: frozenset[str]

    @property
    def present(self) -> tuple[WorkerObserved, ...]:
        return tuple(f.observed for f in self.findings if isinstance(f, Present))

    @property
    def are_all_gone(self) -> bool:
        return all(isinstance(finding, Gone) for finding in self.findings)

    @property
    def root(self) -> RootCause | None:
        return find_root(self.endpoint.workers, self.findings, self.quiet_nodes)

    def are_all(self, state: WorkerState) -> bool:
        return len(self.present) == self.endpoint.num_stages and all(
            observed.state is state for observed in self.present
        )


async def settle(
    round_: Round,
    fleet: tuple[Endpoint, ...],
    known_models: Mapping[str, Model],
    demands: Mapping[str, Demand],
    watch: StartWatch,
    echoes: EchoWatch,
) -> bool:
    """Apply every finding and make every due move; whether anything changed state."""
    changed = False
    watch.keep_only({endpoint.id for endpoint in fleet})
    echoes.keep_only({endpoint.id for endpoint in fleet})
    latest = dict(known_models)  # a series of failed starts grows within the round
    for endpoint in fleet:
        diagnosed = _diagnose(round_, endpoint)
        root = diagnosed.root
        if root is not None and echoes.may_change(endpoint.id, root, round_.now_s):
            round_.ailing.add(endpoint.id)
            continue
        changed |= await _record_workers(round_, diagnosed)
        idle = idleness(round_, endpoint, diagnosed.present)
        await _record_idleness(round_, endpoint, idle)
        model = latest[endpoint.model_id]
        demand = demands.get(endpoint.model_id, Demand())
        verdict = judge(endpoint, _situation(round_, diagnosed, model, demand, idle, watch))
        if verdict is not None:
            latest[model.id] = await make_move(round_, endpoint, model, verdict)
            changed = True
    return changed


def progress_of(round_: Round, endpoint: Endpoint) -> StartProgress:
    observed = round_.observed
    return start_progress([observed.fetch(w.node_id, w.fetch_id) for w in endpoint.workers])


def _diagnose(round_: Round, endpoint: Endpoint) -> Diagnosed:
    observed = round_.observed
    node_ids = {worker.node_id for worker in endpoint.workers}
    quiet = frozenset(id_ for id_ in node_ids if round_.report_of(id_).is_quiet)
    findings = tuple(
        diagnose(
            worker,
            round_.report_of(worker.node_id),
            observed.worker(worker.node_id, worker.id),
            observed.fetch(worker.node_id, worker.fetch_id),
        )
        for worker in endpoint.workers
    )
    return Diagnosed(endpoint, findings, quiet)


async def _record_workers(round_: Round, diagnosed: Diagnosed) -> bool:
    changed = False
    for worker, finding in zip(diagnosed.endpoint.workers, diagnosed.findings, strict=True):
        if isinstance(finding, Gone):
            await endpoints.end_worker(round_.session, worker.id, finding.cause)
            if worker.is_desired:
                round_.changed_nodes.add(worker.node_id)
            changed = True
        elif isinstance(finding, Present) and _has_changed(worker, finding.observed):
            await endpoints.record_worker(round_.session, finding.observed)
            changed |= worker.public_key != finding.observed.public_key
    return changed


def _has_changed(worker: Worker, observed: WorkerObserved) -> bool:
    return (worker.state, worker.public_key) != (observed.state, observed.public_key)


async def _record_idleness(round_: Round, endpoint: Endpoint, idle: Idleness) -> None:
    if idle.is_busy and endpoint.idle_s is not None:
        await endpoints.set_busy(round_.session, endpoint.id)
    elif idle.is_news:
        assert idle.idle_s is not None
        await endpoints.set_idle(round_.session, endpoint.id, idle.idle_s)


def _situation(
    round_: Round,
    diagnosed: Diagnosed,
    model: Model,
    demand: Demand,
    idle: Idleness,
    watch: StartWatch,
) -> Situation:
    endpoint, timing = diagnosed.endpoint, round_.timing
    root = diagnosed.root
    progress = progress_of(round_, endpoint)
    is_deleted = model.state is ModelState.DELETING
    nothing_runs = all(w.num_running + w.num_waiting == 0 for w in diagnosed.present)
    return Situation(
        failure=root.cause if root else None,
        guilty_id=root.guilty_id if root else None,
        are_all_ready=diagnosed.are_all(WorkerState.READY),
        are_all_gone=diagnosed.are_all_gone,
        is_stuck=_is_stuck(round_, diagnosed, watch),
        progress=_describe(diagnosed, progress),
        is_outgrown=endpoint.id in round_.outgrown,
        is_unwanted=is_deleted
        or _is_abandoned(endpoint, demand, progress, timing.abandon_below_fraction),
        is_idle_for_long=_is_idle_for_long(idle, model, demand),
        is_drained=endpoint.num_assigned == 0
        and nothing_runs
        and diagnosed.are_all(WorkerState.DRAINING),
    )


def _is_idle_for_long(idle: Idleness, model: Model, demand: Demand) -> bool:
    """Its workers have nothing to do for a moment also while the queue's next ones are on their
    way to them."""
    if demand.num_waiting or idle.idle_s is None:
        return False
    return idle.idle_s >= model.keep_alive_s


def _is_stuck(round_: Round, diagnosed: Diagnosed, watch: StartWatch) -> bool:
    endpoint, observed = diagnosed.endpoint, round_.observed
    if endpoint.state is not EndpointState.STARTING:
        return False
    fetches = tuple(observed.fetch(w.node_id, w.fetch_id) for w in endpoint.workers)
    return watch.is_stuck(endpoint.id, diagnosed.present, fetches, round_.now_s)


def _is_abandoned(
    endpoint: Endpoint, demand: Demand, progress: StartProgress, below_fraction: float
) -> bool:
    num_waiting = demand.num_waiting + demand.num_unheard
    nobody_waits = endpoint.num_assigned == 0 and num_waiting == 0
    is_starting = endpoint.state is EndpointState.STARTING
    return is_starting and nobody_waits and progress.fraction < below_fraction


def _describe(diagnosed: Diagnosed, progress: StartProgress) -> str:
    states = ", ".join(f"{o.worker_id} {o.state}" for o in diagnosed.present) or "no worker seen"
    if progress.bytes_total is None:
        return f"{states}; its fetch was not seen"
    return f"{states}; {progress.bytes_done} of {progress.bytes_total} bytes fetched"
