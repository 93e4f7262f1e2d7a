"""What a heartbeat, or its absence, means for a worker. Pure."""

from dataclasses import dataclass

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.causes import Cause, CauseKind
from libs.common.states import FetchState, WorkerState
from services.scheduler.policy.cluster import NodeRecord, Worker
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.liveness import agent_of, fetcher_of
from services.scheduler.policy.observed import Observed


@dataclass(frozen=True)
class NodeReport:
    """What is known of a worker's node at one moment."""

    node_id: str
    is_lost: bool  # silent for too long
    has_rebooted: bool  # the agent that ran the worker is gone, and its workers with it
    has_accepted: bool  # the agent follows the newest desired state
    is_heard: bool  # this leader heard the agent at all
    is_fetcher_lost: bool = False
    is_quiet: bool = False  # one of its services has missed a heartbeat

    @classmethod
    def of(cls, record: NodeRecord, observed: Observed, limits: Limits) -> "NodeReport":
        """What its silence and its last words mean."""
        heard, liveness = observed.agents.get(record.id), observed.liveness
        agent_s = liveness.silence_s(agent_of(record.id))
        fetcher_s = liveness.silence_s(fetcher_of(record.id))
        boot_id = heard.heartbeat.boot_id if heard is not None else None
        accepted_version = heard.heartbeat.accepted_version if heard is not None else -1
        return cls(
            node_id=record.id,
            is_lost=agent_s > limits.node_lost_s,
            is_fetcher_lost=fetcher_s > limits.node_lost_s,
            is_quiet=max(agent_s, fetcher_s) > limits.node_quiet_s,
            is_heard=heard is not None,
            has_rebooted=boot_id is not None and record.agent_boot_id not in (None, boot_id),
            has_accepted=accepted_version >= record.desired_version,
        )


@dataclass(frozen=True)
class Gone:
    """The worker's process is not there any more: its memory is free."""

    cause: Cause | None  # None: it ended as asked


@dataclass(frozen=True)
class Failing:
    """Its process may still be there, but it cannot become ready."""

    cause: Cause


@dataclass(frozen=True)
class Present:
    observed: WorkerObserved


@dataclass(frozen=True)
class Unknown:
    """Not seen, and no reason yet to think anything of it."""


Finding = Gone | Failing | Present | Unknown


def diagnose(
    worker: Worker,
    node: NodeReport,
    observed: WorkerObserved | None,
    fetch: FetchObserved | None,
) -> Finding:
    if node.is_lost:
        return _gone(worker, CauseKind.NODE_LOST)
    if node.has_rebooted:
        return _gone(worker, CauseKind.AGENT_RESTARTED)
    if not node.is_heard:
        return Unknown()
    if observed is None:
        return _absent(worker, node, fetch)
    if observed.state.is_finished:
        return _ended(worker, observed, fetch)
    return _fetch_trouble(worker, node, observed.state, fetch) or Present(observed)


def _gone(worker: Worker, kind: CauseKind) -> Gone:
    return Gone(_of(worker, Cause(kind))) if worker.is_desired else Gone(None)


def _ended(worker: Worker, observed: WorkerObserved, fetch: FetchObserved | None) -> Gone:
    """Whoever waited for weights that could not be had died of their fetch."""
    if not worker.is_desired:
        return Gone(None)
    was_ready = worker.state in (WorkerState.READY, WorkerState.DRAINING)
    if not was_ready and fetch is not None and fetch.state is FetchState.FAILED:
        return Gone(_failed_fetch(worker, fetch))
    silent = Cause.of(CauseKind.WORKER_ENDED, state=observed.state.value)
    return Gone(_of(worker, observed.cause or silent))


def _absent(worker: Worker, node: NodeReport, fetch: FetchObserved | None) -> Finding:
    if not worker.is_desired:
        return Gone(None) if node.has_accepted else Unknown()
    if worker.state is WorkerState.PLANNED:
        return _fetch_trouble(worker, node, worker.state, fetch) or Unknown()
    if not node.has_accepted:
        return Unknown()
    return Gone(_of(worker, Cause(CauseKind.WORKER_VANISHED)))


def _fetch_trouble(
    worker: Worker, node: NodeReport, state: WorkerState, fetch: FetchObserved | None
) -> Failing | None:
    """Only until the worker is ready: afterwards it holds its weights itself."""
    is_waiting_for_weights = worker.is_desired and state in (
        WorkerState.PLANNED,
        WorkerState.LAUNCHING,
        WorkerState.REGISTERED,
    )
    if not is_waiting_for_weights:
        return None
    if fetch is not None and fetch.state is FetchState.FAILED:
        return Failing(_failed_fetch(worker, fetch))
    if node.is_fetcher_lost:
        return Failing(_of(worker, Cause(CauseKind.FETCHER_SILENT)))
    return None


def _failed_fetch(worker: Worker, fetch: FetchObserved) -> Cause:
    return _of(worker, fetch.cause or Cause(CauseKind.FETCHER_FAILED))


def _of(worker: Worker, cause: Cause) -> Cause:
    """The cause, and whose it is."""
    return cause.with_facts(worker_id=worker.id, node_id=worker.node_id)
