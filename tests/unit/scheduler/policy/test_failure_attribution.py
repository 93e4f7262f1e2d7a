from collections.abc import Mapping

import pytest

from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from libs.common.states import EndpointState, WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.effects import after
from services.scheduler.policy.failures.diagnosis import Failing, Finding, Gone, Unknown
from services.scheduler.policy.failures.failure_attribution import RootCause, find_root
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.routes import closed_endpoints
from tests.unit.scheduler.values import endpoint, observed, open_request, snapshot, worker

RING = tuple(worker(id=f"w-{i}", stage_index=i, node_id=f"node-{i}") for i in range(4))
KILLED = Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL", worker_id="w-2", node_id="node-2")
FULL = Cause.of(CauseKind.HOST_CACHE_FULL, worker_id="w-3", node_id="node-3")
WITHOUT_WEIGHTS = Cause.of(CauseKind.WEIGHTS_UNAVAILABLE, worker_id="w-1", node_id="node-1")
ECHO = Cause(CauseKind.NEIGHBOUR_LOST)
SILENT = Unknown()


def echo(stage: int, lost: int) -> Gone:
    facts = {"own_stage": stage, "stage": lost}
    return Gone(Cause.of(CauseKind.NEIGHBOUR_LOST, **facts, detail="gone", worker_id=f"w-{stage}"))


def root_of(
    *findings: Finding, workers: tuple[Worker, ...] = RING, quiet_nodes: tuple[str, ...] = ()
) -> RootCause:
    root = find_root(workers, findings, quiet_nodes)
    assert root is not None
    return root


@pytest.mark.parametrize(
    ("findings", "quiet", "kind", "guilty", "is_certain", "reason"),
    [
        (
            (echo(0, 1), echo(1, 2), Gone(KILLED), echo(3, 2)),
            (),
            *(CauseKind.PROCESS_EXITED, "w-2", True, "a process's own end is the root"),
        ),
        (
            (echo(0, 3), SILENT, SILENT, Failing(FULL)),
            (),
            *(CauseKind.HOST_CACHE_FULL, "w-3", True, "so is a fetch that failed"),
        ),
        (
            (echo(0, 1), echo(1, 2), SILENT, echo(3, 2)),
            (),
            *(CauseKind.STAGE_SILENT, "w-2", False, "all ways lead to who says nothing"),
        ),
        (
            (echo(0, 1), echo(1, 2), SILENT, echo(3, 2)),
            ("node-2",),
            *(CauseKind.NODE_SILENT, "w-2", False, "its node is quiet, too"),
        ),
        (
            (echo(0, 1), echo(1, 2), SILENT, echo(3, 2)),
            ("node-1",),
            *(CauseKind.STAGE_SILENT, "w-2", False, "another node's silence explains nothing"),
        ),
        (
            (echo(0, 1), Gone(WITHOUT_WEIGHTS), echo(2, 1), SILENT),
            (),
            *(CauseKind.WEIGHTS_UNAVAILABLE, "w-1", False, "its fetcher may still say why"),
        ),
        (
            (echo(0, 1), Gone(WITHOUT_WEIGHTS), echo(2, 1), SILENT),
            ("node-1",),
            *(CauseKind.NODE_SILENT, "w-1", False, "its fetcher cannot say anything"),
        ),
        (
            (SILENT, echo(1, 2), echo(2, 1), SILENT),
            (),
            *(CauseKind.STAGES_SEPARATED, None, False, "two that lost each other"),
        ),
        (
            (Gone(Cause(CauseKind.NEIGHBOUR_STALLED)), SILENT, Gone(KILLED), SILENT),
            (),
            *(CauseKind.PROCESS_EXITED, "w-2", True, "who waited in vain is not the root"),
        ),
        (
            (Gone(Cause(CauseKind.NEIGHBOUR_MISSING)), SILENT, Gone(KILLED), SILENT),
            (),
            *(CauseKind.PROCESS_EXITED, "w-2", True, "nor who was not linked in time"),
        ),
        (
            (Gone(Cause(CauseKind.NEIGHBOUR_STALLED)), SILENT, SILENT, SILENT),
            (),
            *(CauseKind.STAGES_SEPARATED, None, False, "nobody says for whom it waited"),
        ),
        (
            (Gone(Cause(CauseKind.NEIGHBOUR_MISSING)), SILENT, SILENT, SILENT),
            (),
            *(CauseKind.STAGES_SEPARATED, None, False, "nobody says for whom it waited"),
        ),
    ],
)
def test_the_root_of_a_failure(
    findings: tuple[Finding, ...],
    quiet: tuple[str, ...],
    kind: CauseKind,
    guilty: str | None,
    is_certain: bool,
    reason: str,
) -> None:
    root = root_of(*findings, quiet_nodes=quiet)

    assert (root.cause.kind, root.guilty_id, root.is_certain) == (kind, guilty, is_certain), reason


@pytest.mark.parametrize(
    ("findings", "quiet", "counts"),
    [
        ((echo(0, 1), SILENT), (), True),
        ((echo(0, 1), SILENT), ("node-1",), False),
        ((echo(0, 1), echo(1, 0)), (), False),
        ((echo(0, 1), Gone(WITHOUT_WEIGHTS)), (), True),
        ((echo(0, 1), Gone(WITHOUT_WEIGHTS)), ("node-1",), False),
    ],
    ids=["hangs", "node silent", "lost each other", "no weights", "no weights, node silent"],
)
def test_nodes_and_networks_do_not_count_against_the_model(
    findings: tuple[Finding, ...], quiet: tuple[str, ...], counts: bool
) -> None:
    root = root_of(*findings, workers=RING[:2], quiet_nodes=quiet)

    assert root.cause.counts_against_model is counts


def test_the_cause_of_a_silence_says_who_where_and_by_whose_word() -> None:
    findings = (echo(0, 1), echo(1, 2), SILENT, echo(3, 2))

    hangs, lost = root_of(*findings), root_of(*findings, quiet_nodes=("node-2",))

    felt = "worker w-1: stage 1 lost its neighbour stage 2: gone"
    assert words(hangs.cause) == f"worker w-2 on node node-2 hangs: {felt}"
    assert words(lost.cause) == f"node node-2 with worker w-2 is silent: {felt}"


def test_an_echo_that_names_nobody_is_still_a_cause_but_nobodys_own() -> None:
    root = root_of(Gone(ECHO), workers=RING[:1])

    assert root.guilty_id is None
    assert words(root.cause) == "its stages lost each other: it lost its neighbour"


def test_a_worker_that_ended_as_asked_is_no_failure() -> None:
    assert find_root(RING[:2], (Gone(None), SILENT)) is None


def test_echoes_wait_for_the_root_but_not_for_ever_and_a_certain_root_does_not_wait() -> None:
    first_s = decided(10.0, "endpoint", ECHO)
    assert first_s == {"endpoint": 10.0}, "it waits"
    assert decided(10.9, "endpoint", ECHO, since_s=first_s) == first_s
    assert decided(11.0, "endpoint", ECHO, since_s=first_s) is None
    assert decided(11.0, "other", KILLED, since_s=first_s) is None

    assert decided(12.0, "endpoint", ECHO) == {"endpoint": 12.0}, "a new count"


def test_a_wait_for_a_root_is_forgotten_with_its_endpoint() -> None:
    of_two = {"endpoint": 10.0, "other": 11.0}
    before = failing("endpoint", ECHO, 12.0).changed(echoes_since_s=of_two)

    gone = after(
        before,
        [d.FinishEndpoint("model-1", "endpoint"), d.EndWorker("model-1", "endpoint", *AT, None)],
    )

    assert dict(gone.echoes_since_s) == {"other": 11.0}


def test_while_a_root_is_awaited_the_endpoint_is_given_nothing_and_has_no_route() -> None:
    entry, follower = worker(id="w-0"), worker(id="w-1", stage_index=1)
    present = observed(WorkerState.READY, worker_id="w-0")
    ended = observed(WorkerState.FAILED, worker_id="w-1", cause=ECHO)
    before = snapshot(
        endpoints=(endpoint(workers=(entry, follower), state=EndpointState.PIPELINED),),
        workers={"node-1": (present, ended)},
        requests=(open_request(),),
    )

    round_ = decide_round(before, SWEEP, NodeMemo())

    assert d.AwaitRootCause("model-1", "endpoint-1") in round_.decisions
    assert not [x for x in round_.decisions if isinstance(x, d.AssignRequest)]
    assert closed_endpoints(round_.snapshot) == {"endpoint-1"}


AT = ("worker-1", "node-1")


def failing(endpoint_id: str, cause: Cause, now_s: float) -> Snapshot:
    """Its only worker has ended with that cause."""
    ended = observed(WorkerState.FAILED, endpoint_id=endpoint_id, cause=cause)
    return snapshot(
        now_s=now_s,
        limits=Limits(echo_grace_s=1.0),
        endpoints=(endpoint(id=endpoint_id, workers=(worker(endpoint_id=endpoint_id),)),),
        workers={"node-1": (ended,)},
    )


def decided(
    now_s: float, endpoint_id: str, cause: Cause, since_s: Mapping[str, float] | None = None
) -> Mapping[str, float] | None:
    """Since when the endpoints wait for a root, after a round; None: this one has failed."""
    before = failing(endpoint_id, cause, now_s).changed(echoes_since_s=since_s or {})
    round_ = decide_round(before, SWEEP, NodeMemo())
    has_failed = any(isinstance(decision, d.FailEndpoint) for decision in round_.decisions)
    has_waited = d.AwaitRootCause("model-1", endpoint_id) in round_.decisions
    assert has_failed != has_waited
    return dict(round_.snapshot.echoes_since_s) if has_waited else None
