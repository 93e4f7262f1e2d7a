import pytest

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.causes import Cause, CauseKind
from libs.common.states import FetchState, WorkerState
from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.failures.diagnosis import (
    Failing,
    Finding,
    Gone,
    NodeReport,
    Present,
    Unknown,
    diagnose,
)
from tests.unit.scheduler.values import fetch, observed, report, worker

RUNNING = observed(WorkerState.READY)
LAUNCHING = observed(WorkerState.LAUNCHING)
DIED = observed(WorkerState.FAILED, cause=Cause.of(CauseKind.PROCESS_EXITED, code=9))
MISSING = Cause.of(CauseKind.UNIT_MISSING, key="units/ab")
NO_ROOM = Cause.of(CauseKind.HOST_CACHE_FULL, needed_bytes=7)
WHO = {"worker_id": "worker-1", "node_id": "node-1"}


@pytest.mark.parametrize(
    ("worker_", "node", "seen", "expected", "reason"),
    [
        (worker(), report(), RUNNING, Present, "it is there"),
        (worker(), report(is_heard=False), None, Unknown, "this leader has heard nothing yet"),
        (
            worker(),
            report(is_lost=True),
            RUNNING,
            Gone,
            "what it said last is worth nothing",
        ),
        (worker(), report(has_rebooted=True), None, Gone, "its agent's death is its own"),
        (worker(), report(), None, Gone, "its agent has forgotten it"),
        (worker(), report(has_accepted=False), None, Unknown, "the agent follows an older version"),
        (
            worker(state=WorkerState.PLANNED),
            report(),
            None,
            Unknown,
            "accepted, and not yet in a heartbeat",
        ),
        (worker(), report(), DIED, Gone, "it ended by itself"),
        (worker(is_desired=False), report(), RUNNING, Present, "it has not been stopped yet"),
        (worker(is_desired=False), report(), None, Gone, "stopped as asked"),
        (
            worker(is_desired=False),
            report(has_accepted=False),
            None,
            Unknown,
            "an agent that lags behind may still start it",
        ),
        (worker(is_desired=False), report(), DIED, Gone, "ended, whatever the reason"),
    ],
)
def test_what_is_known_of_node_and_worker_decides(
    worker_: Worker,
    node: NodeReport,
    seen: WorkerObserved | None,
    expected: type[Finding],
    reason: str,
) -> None:
    assert isinstance(diagnose(worker_, node, seen, None), expected), reason


@pytest.mark.parametrize(
    ("fetch_", "seen", "node", "expected", "reason"),
    [
        (fetch(FetchState.FAILED, cause=MISSING), LAUNCHING, report(), Failing, "no weights"),
        (fetch(FetchState.FAILED, cause=NO_ROOM), RUNNING, report(), Present, "it has them"),
        (fetch(FetchState.FETCHING), LAUNCHING, report(), Present, "they are on their way"),
        (None, LAUNCHING, report(), Present, "the fetcher restarts"),
        (None, LAUNCHING, report(is_fetcher_lost=True), Failing, "nobody brings them"),
        (None, RUNNING, report(is_fetcher_lost=True), Present, "it needs nobody"),
        (fetch(FetchState.FAILED), None, report(), Failing, "its launch waits for them"),
        (None, None, report(is_fetcher_lost=True), Failing, "its launch waits for nobody"),
        (fetch(FetchState.FETCHING), None, report(), Unknown, "it is not launched yet"),
    ],
)
def test_a_worker_that_waits_for_weights_depends_on_its_fetch(
    fetch_: FetchObserved | None,
    seen: WorkerObserved | None,
    node: NodeReport,
    expected: type[Finding],
    reason: str,
) -> None:
    planned_or_seen = worker(state=WorkerState.PLANNED if seen is None else seen.state)
    assert isinstance(diagnose(planned_or_seen, node, seen, fetch_), expected), reason


def test_a_cause_names_who_where_and_why() -> None:
    finding = diagnose(worker(), report(), DIED, None)

    assert finding == Gone(Cause(CauseKind.PROCESS_EXITED, {"code": 9, **WHO}))


def test_a_fetch_failure_carries_the_fetchers_own_facts() -> None:
    failed = fetch(FetchState.FAILED, cause=MISSING)

    finding = diagnose(worker(), report(), LAUNCHING, failed)

    assert finding == Failing(Cause(CauseKind.UNIT_MISSING, {"key": "units/ab", **WHO}))


@pytest.mark.parametrize(("cause", "is_models"), [(NO_ROOM, False), (MISSING, True)])
def test_a_worker_that_died_of_its_fetch_ends_with_the_fetchers_cause(
    cause: Cause, is_models: bool
) -> None:
    without = Cause.of(CauseKind.WEIGHTS_UNAVAILABLE, detail="no room")
    died = observed(WorkerState.FAILED, cause=without)
    failed = fetch(FetchState.FAILED, cause=cause)

    waiting = diagnose(worker(state=WorkerState.LAUNCHING), report(), died, failed)
    ready = diagnose(worker(state=WorkerState.READY), report(), died, failed)

    assert waiting == Gone(cause.with_facts(**WHO))
    assert cause.counts_against_model is is_models
    assert ready == Gone(without.with_facts(**WHO)), "it had its weights"


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (report(is_lost=True), CauseKind.NODE_LOST),
        (report(has_rebooted=True), CauseKind.AGENT_RESTARTED),
    ],
)
def test_the_end_of_a_node_says_nothing_about_the_model(node: NodeReport, kind: CauseKind) -> None:
    cause = Cause(kind, WHO)

    assert diagnose(worker(), node, None, None) == Gone(cause)
    assert not cause.counts_against_model


@pytest.mark.parametrize(
    ("finding", "kind"),
    [
        (diagnose(worker(), report(), None, None), CauseKind.WORKER_VANISHED),
        (
            diagnose(worker(), report(), observed(WorkerState.STOPPED), None),
            CauseKind.WORKER_ENDED,
        ),
        (
            diagnose(
                worker(state=WorkerState.LAUNCHING), report(is_fetcher_lost=True), LAUNCHING, None
            ),
            CauseKind.FETCHER_SILENT,
        ),
        (
            diagnose(worker(), report(), LAUNCHING, fetch(FetchState.FAILED)),
            CauseKind.FETCHER_FAILED,
        ),
    ],
)
def test_what_nobody_gives_a_cause_for_has_one_of_its_own(
    finding: Finding, kind: CauseKind
) -> None:
    assert isinstance(finding, Gone | Failing) and finding.cause is not None
    assert finding.cause.kind is kind
    assert finding.cause.facts.items() >= WHO.items()


def test_an_undesired_worker_ends_without_a_cause() -> None:
    for node, seen in ((report(is_lost=True), None), (report(), DIED), (report(), None)):
        assert diagnose(worker(is_desired=False), node, seen, None) == Gone(None)
