import pytest

from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.diagnosis import Failing, Finding, Gone, Unknown
from services.scheduler.policy.failure_attribution import EchoWatch, RootCause, find_root
from tests.unit.scheduler.values import worker

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
    watch, uncertain = EchoWatch(1.0), RootCause(ECHO, is_certain=False)

    assert watch.may_change("endpoint", uncertain, 10.0)
    assert watch.may_change("endpoint", uncertain, 10.9)
    assert not watch.may_change("endpoint", uncertain, 11.0)
    assert not watch.may_change("other", RootCause(KILLED), 11.0)

    watch.keep_only(set())
    assert watch.may_change("endpoint", uncertain, 12.0), "a new count"
