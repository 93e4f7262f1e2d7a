"""Who goes on alone after crashes, and when others may follow: from values alone."""

from collections.abc import Iterable
from typing import Any

import pytest

from libs.common.bus.messages import GatewayHeartbeat
from libs.common.states import EndpointState, LossKind, WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, OpenRequest, RequestLoss
from services.scheduler.policy.effects import after
from services.scheduler.policy.failures.isolation import must_be_alone
from services.scheduler.policy.rules.assignment import assign_queued
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import (
    NOW_S,
    agent_heartbeat,
    endpoint,
    heard_now,
    observed,
    open_request,
    snapshot,
    worker,
)

Given = list[tuple[str, str]]  # request, endpoint


def loss(
    endpoint_id: str, kind: LossKind | None = LossKind.ENGINE_CRASH, *, has_progressed: bool = True
) -> RequestLoss:
    return RequestLoss(endpoint_id, NOW_S - 5.0, has_progressed, kind)


def lost(name: str, num_engine_crashes: int, **changes: Any) -> OpenRequest:
    """Queued again after so many crashes, in the order of their names."""
    losses = tuple(loss(f"old-{i}") for i in range(num_engine_crashes))
    values = {"attempt": num_engine_crashes + 1, "losses": losses} | changes
    return open_request(
        id=name,
        num_engine_crashes=num_engine_crashes,
        arrived_at_s=NOW_S - 100 + ord(name[-1]),
        **values,
    )


def serving(name: str, node_id: str = "node-1", **changes: Any) -> Endpoint:
    own = worker(id=f"worker-{name}", endpoint_id=name, node_id=node_id)
    return endpoint(id=name, workers=(own,), max_slots=16, **changes)


def state_of(
    requests: Iterable[OpenRequest], *endpoints: Endpoint, progressed: dict[str, int] | None = None
) -> Snapshot:
    endpoints = endpoints or (serving("endpoint-1"),)
    requests = list(requests)
    beats = [
        agent_heartbeat(
            "boot-a",
            1,
            observed(WorkerState.READY, worker_id=e.workers[0].id, endpoint_id=e.id),
            node_id=e.workers[0].node_id,
        )
        for e in endpoints
    ]
    gateway = GatewayHeartbeat(
        gateway_id="gateway-1",
        request_ids=tuple(r.id for r in requests),
        progressed=progressed or {},
    )
    return snapshot(
        requests=requests, endpoints=endpoints, observed=heard_now(beats, gateways=[gateway])
    )


def given(state: Snapshot) -> Given:
    found = list(assign_queued(state, "model-1"))
    return [(x.request_id, x.endpoint_id) for x in found if isinstance(x, d.AssignRequest)]


@pytest.mark.parametrize(
    ("num_engine_crashes", "losses", "expected"),
    [
        (0, (), False),
        (1, (loss("a"),), False),
        (2, (loss("a"), loss("b")), True),
        (3, (), True),
        (1, (loss("a"), loss("b", None)), True),
        (0, (loss("a", None), loss("b", None)), False),
        (1, (loss("a"), loss("b", LossKind.NODE_LOSS), loss("c", LossKind.OTHER)), False),
    ],
    ids=[
        "new",
        "one crash",
        "two crashes",
        "crashes of an earlier version",
        "one, and an end of which the cause is not known",
        "two ends of which no cause is known",
        "one, and what does not count",
    ],
)
def test_a_request_goes_alone_that_was_there_at_two_crashes(
    num_engine_crashes: int, losses: tuple[RequestLoss, ...], expected: bool
) -> None:
    request = open_request(num_engine_crashes=num_engine_crashes, losses=losses)

    assert must_be_alone(request) is expected


def test_after_a_first_crash_all_go_on_together() -> None:
    requests = [lost(f"request-{i}", 1) for i in range(10)]

    assert given(state_of(requests)) == [(r.id, "endpoint-1") for r in requests]


def test_lost_nodes_single_nobody_out() -> None:
    requests = [lost(f"request-{i}", 0, num_node_losses=2, attempt=3) for i in range(4)]

    assert len(given(state_of(requests))) == 4


def test_after_a_second_crash_one_goes_alone_until_its_next_token_is_out() -> None:
    state = state_of([lost(f"request-{i}", 2) for i in range(3)])

    first = given(state)
    assert first == [("request-0", "endpoint-1")]
    state = after(state, assign_queued(state, "model-1"))
    assert given(state) == []
    running = list(state.requests)
    assert given(state_of(running, progressed={"request-0": 3})) == [("request-1", "endpoint-1")]


def test_a_token_of_an_earlier_attempt_lets_nobody_in() -> None:
    requests = [lost("request-0", 2, endpoint_id="endpoint-1"), lost("request-1", 2)]

    assert given(state_of(requests, progressed={"request-0": 2})) == []


def test_nobody_is_sent_to_where_a_request_is_alone_but_elsewhere() -> None:
    alone, new = lost("request-0", 2, endpoint_id="endpoint-1"), lost("request-1", 0)
    other = serving("endpoint-2", "node-2")

    assert given(state_of([alone, new])) == []
    assert given(state_of([alone, new], serving("endpoint-1"), other)) == [
        ("request-1", "endpoint-2")
    ]
    assert given(state_of([alone, new], progressed={"request-0": 3})) == [
        ("request-1", "endpoint-1")
    ]


def test_who_must_be_alone_goes_to_where_the_fewest_run() -> None:
    busy, idle = serving("endpoint-1"), serving("endpoint-2", "node-2")
    running = [lost(f"running-{i}", 0, endpoint_id="endpoint-1") for i in range(3)]

    found = given(state_of([*running, lost("request-0", 2), lost("request-1", 0)], busy, idle))

    assert found == [("request-0", "endpoint-2"), ("request-1", "endpoint-1")]


def test_an_endpoint_that_starts_is_kept_for_who_must_be_alone_until_it_serves() -> None:
    starting = serving("endpoint-1", state=EndpointState.STARTING, has_been_ready=False)
    requests = [lost("request-0", 2), lost("request-1", 0)]

    assert given(state_of(requests, starting)) == []
    assert given(state_of(requests[1:], starting)) == [("request-1", "endpoint-1")]


def test_who_crashed_its_engine_without_a_token_is_the_first_to_go_alone() -> None:
    """Else others who are in company by then would be there at its next crash, too."""
    silent = tuple(loss(f"old-{i}", has_progressed=False) for i in range(2))
    requests = [lost("request-0", 2), lost("request-1", 2, losses=silent), lost("request-2", 2)]

    assert given(state_of(requests)) == [("request-1", "endpoint-1")]


NAMES = [f"request-{i}" for i in range(10)]


def crashes_of_all(culprit: str, *, has_token: bool) -> dict[str, int]:
    """Ten requests, of which one crashes its engine whenever it computes, before its next token or
    just after it: as rounds decide, until it has ended."""
    crashes, silent = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    running: set[str] = set()
    for _ in range(100):
        if crashes[culprit] >= 4:
            break
        waiting = [
            lost(
                name,
                crashes[name],
                endpoint_id="endpoint-1" if name in running else None,
                losses=tuple(
                    loss(f"old-{i}", has_progressed=i >= silent[name]) for i in range(crashes[name])
                ),
            )
            for name in NAMES
        ]
        progressed = {name: crashes[name] + 1 for name in running}
        new = {name for name, _ in given(state_of(waiting, progressed=progressed))}
        assert new, "somebody goes on"
        running |= new
        if culprit in new:
            for name in running:
                crashes[name] += 1
                silent[name] += name in new and not has_token
            running = set()
    return crashes


@pytest.mark.parametrize("has_token", [False, True], ids=["before its token", "after it"])
@pytest.mark.parametrize("culprit", ["request-0", "request-7", "request-9"])
def test_a_request_that_crashes_every_engine_ends_before_the_others_do(
    culprit: str, has_token: bool
) -> None:
    crashes = crashes_of_all(culprit, has_token=has_token)

    assert crashes.pop(culprit) == 4
    assert max(crashes.values()) <= 3, "nobody else ends with it"
