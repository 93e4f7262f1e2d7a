"""What the end of an endpoint counts as, for a request that it had: from values alone."""

from dataclasses import replace

import pytest

from libs.common.bus.messages import WorkerObserved
from libs.common.causes import CauseKind, Fault
from libs.common.reasons import Reason
from libs.common.states import EndpointState, LossKind, WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, EndpointFailure, OpenRequest, RequestLoss
from services.scheduler.policy.effects import after
from services.scheduler.policy.failures.request_losses import kind_of, why_no_more_attempts
from services.scheduler.policy.rules.request_ends import end_of_crashed
from services.scheduler.policy.rules.request_losses import count_losses
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.snapshot_tables import failure_table
from services.scheduler.store.columns.cause_columns import fault_of
from tests.unit.scheduler.values import NOW_S, endpoint, observed, open_request, snapshot

LOSS = RequestLoss("endpoint-1", NOW_S - 10.0, has_progressed=True)
LOST = open_request(attempt=2, losses=(LOSS,))


def failure(fault: Fault, *, has_been_ready: bool = True) -> EndpointFailure:
    return EndpointFailure(
        "endpoint-1", "model-1", NOW_S - 1.0, "a cause", frozenset(), fault, has_been_ready
    )


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.MODEL, LossKind.ENGINE_CRASH),
        (Fault.BUG, LossKind.ENGINE_CRASH),
        (Fault.REQUEST, LossKind.ENGINE_CRASH),
        (Fault.NODE, LossKind.NODE_LOSS),
        (Fault.NETWORK, LossKind.OTHER),
        (Fault.STORE, LossKind.OTHER),
        (Fault.OPERATOR, LossKind.OTHER),
    ],
)
def test_whose_fault_it_was_says_what_a_lost_endpoint_counts_as(
    fault: Fault, kind: LossKind
) -> None:
    assert kind_of(failure(fault), 0) is kind


@pytest.mark.parametrize(
    ("fault", "num_engine_crashes", "kind"),
    [
        (Fault.MODEL, 0, LossKind.OTHER),
        (Fault.MODEL, 1, LossKind.ENGINE_CRASH),
        (Fault.NODE, 1, LossKind.OTHER),
    ],
)
def test_a_failed_start_counts_only_for_those_under_whom_an_engine_crashed_before(
    fault: Fault, num_engine_crashes: int, kind: LossKind
) -> None:
    assert kind_of(failure(fault, has_been_ready=False), num_engine_crashes) is kind


def test_a_kind_that_this_version_does_not_know_is_a_bug() -> None:
    assert fault_of(CauseKind.NODE_LOST.value) is Fault.NODE
    assert fault_of("of_a_later_version") is fault_of(None) is Fault.BUG


def losing(request: OpenRequest, failed: EndpointFailure | None, *live: Endpoint) -> Snapshot:
    seen: dict[str, tuple[WorkerObserved, ...]] = {"node-1": (observed(WorkerState.READY),)}
    return snapshot(
        requests=[request],
        endpoints=live,
        workers=seen if live else None,
        failures=failure_table({} if failed is None else {failed.endpoint_id: failed}),
    )


DYING = endpoint()  # it speaks, with a heartbeat of this moment


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (losing(LOST, failure(Fault.MODEL)), [LossKind.ENGINE_CRASH]),
        (losing(LOST, failure(Fault.NODE)), [LossKind.NODE_LOSS]),
        (losing(LOST, None), [LossKind.OTHER]),
        (losing(LOST, None, DYING), [LossKind.OTHER]),
        (losing(replace(LOST, losses=(replace(LOSS, reported_at_s=NOW_S),)), None, DYING), []),
        (losing(replace(LOST, losses=(replace(LOSS, kind=LossKind.OTHER),)), None), []),
        (losing(LOST, None, endpoint(state=EndpointState.FAILED)), [LossKind.OTHER]),
    ],
    ids=[
        "a crash that is known",
        "a lost node that is known",
        "an endpoint that ended as asked",
        "one that was seen alive since",
        "one of which nobody has heard since",
        "counted already",
        "one that failed before anybody remembers",
    ],
)
def test_a_loss_is_counted_once_its_cause_is_known(
    state: Snapshot, expected: list[LossKind]
) -> None:
    decisions = list(count_losses(state, "model-1"))

    assert [x.kind for x in decisions if isinstance(x, d.CountLoss)] == expected
    assert list(count_losses(after(state, decisions), "model-1")) == []


def test_what_is_counted_is_added_to_its_own_number() -> None:
    state = losing(LOST, failure(Fault.MODEL))

    (request,) = after(state, count_losses(state, "model-1")).requests
    assert (request.num_engine_crashes, request.num_node_losses) == (1, 0)


@pytest.mark.parametrize(
    ("num_engine_crashes", "num_node_losses", "words"),
    [
        (3, 2, None),
        (4, 0, "4 engines crashed while they served this request"),
        (0, 3, "3 nodes were lost while they served this request"),
    ],
)
def test_the_fourth_crash_and_the_third_lost_node_end_a_request(
    num_engine_crashes: int, num_node_losses: int, words: str | None
) -> None:
    request = open_request(num_engine_crashes=num_engine_crashes, num_node_losses=num_node_losses)

    assert why_no_more_attempts(request) == words
    ends = [
        (end.reason, end.message)
        for end in end_of_crashed(snapshot(requests=[request]), "model-1")
        if isinstance(end, d.EndRequest)
    ]
    assert ends == ([] if words is None else [(Reason.WORKER_CRASHED, words)])
