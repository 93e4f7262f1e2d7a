"""Each check finds the one value that breaks its promise, and nothing in a stack in order."""

from dataclasses import replace
from typing import Any

import pytest

from deploy.local.doctor.checks import find_broken
from deploy.local.doctor.promises import Promise
from deploy.local.doctor.values import MemberRecord, NodeState, StackState
from tests.unit.local.doctor.values import (
    ARRIVING,
    CACHED,
    DEVICE,
    ENDED,
    ENDPOINT,
    ENTRY,
    IN_ORDER,
    MEMBER,
    NODE,
    NODE_STATE,
    OPEN,
    RECORDS,
    USAGE,
)


def records(**changes: Any) -> StackState:
    return replace(IN_ORDER, records=replace(RECORDS, **changes))


def request(**changes: Any) -> StackState:
    return records(requests=(replace(OPEN, **changes),))


def worker(**changes: Any) -> StackState:
    return records(workers=(ENTRY, replace(ENTRY, id="second", **changes)), endpoints=())


def endpoint(**changes: Any) -> StackState:
    return records(endpoints=(replace(ENDPOINT, **changes),))


def members(*found: MemberRecord) -> StackState:
    return endpoint(members=found)


def node(**changes: Any) -> StackState:
    return records(nodes=(replace(NODE, **changes),))


def unit(**changes: Any) -> StackState:
    state = replace(NODE_STATE, units=(replace(CACHED, **changes),))
    return replace(IN_ORDER, nodes=(state,))


FINISHED = {"is_finished": True, "has_end": True, "is_desired": False}
FOLLOWER = MemberRecord("follower", is_entry=False, first_layer=1, last_layer=2)

POISONED = [
    (Promise.REQUEST_ENDS, request(outcome="stop"), "open with an outcome", True),
    (Promise.REQUEST_ENDS, request(has_end=True), "open with an end", True),
    (
        Promise.REQUEST_ENDS,
        records(requests=(replace(ENDED, outcome=None),)),
        "ended without an outcome",
        True,
    ),
    (
        Promise.REQUEST_ENDS,
        records(requests=(replace(ENDED, has_end=False),)),
        "ended without a time",
        True,
    ),
    (Promise.REQUEST_ENDS, request(overdue_s=10.1), "open after its deadline", False),
    (Promise.ORPHANED_REQUEST_ENDS, request(gateway_silence_s=20.1), "silent gateway", False),
    (
        Promise.ORPHANED_REQUEST_ENDS,
        request(gateway_silence_s=None, age_s=20.1),
        "a gateway that never spoke",
        False,
    ),
    (
        Promise.USAGE_ONCE,
        records(usage=(replace(USAGE, num_requests=5),)),
        "more than were counted",
        True,
    ),
    (Promise.USAGE_ONCE, records(usage=(replace(USAGE, least=-1),)), "taken away", True),
    (
        Promise.DEVICE_MEMORY,
        records(devices=(replace(DEVICE, reserved_bytes=1001),)),
        "one byte too many",
        True,
    ),
    (
        Promise.RESERVATION_OF_WORKER,
        worker(has_reservation=False),
        "a worker without memory",
        False,
    ),
    (Promise.RESERVATION_OF_WORKER, worker(**FINISHED), "memory without a worker", False),
    (
        Promise.LAYERS_ONCE,
        records(workers=(replace(ENTRY, last_layer=1),)),
        "a layer that no worker holds",
        False,
    ),
    (
        Promise.LAYERS_ONCE,
        records(workers=(ENTRY, replace(ENTRY, id="second", first_layer=1, stage_index=1))),
        "a layer that two workers hold",
        False,
    ),
    (Promise.LAYERS_ONCE, endpoint(num_layers=1), "a layer beyond the model", False),
    (
        Promise.LAYERS_ONCE,
        records(workers=(replace(ENTRY, stage_index=1),)),
        "no entry",
        False,
    ),
    (Promise.LAYERS_ONCE, members(MEMBER, FOLLOWER), "a layer of two members", False),
    (
        Promise.LAYERS_ONCE,
        members(MEMBER, replace(MEMBER, worker_id="two", last_layer=0)),
        "two entries",
        False,
    ),
    (
        Promise.ENDED_ENDPOINT,
        endpoint(is_serving=False, is_finished=True, has_end=True),
        "an ended endpoint that wants a worker",
        False,
    ),
    (
        Promise.ENDED_ENDPOINT,
        records(
            endpoints=(ENDPOINT, replace(ENDPOINT, id="old", is_serving=False, is_finished=True)),
        ),
        "an endpoint that ended without a time",
        False,
    ),
    (Promise.TENANTS, endpoint(tenant="others"), "another tenant's worker", True),
    (Promise.ONE_LEADER, records(num_leaderships=0), "no leadership", True),
    (Promise.ONE_LEADER, records(num_leaderships=2), "two", True),
    (Promise.VERSIONS, node(agent_accepted_version=6), "an agent ahead", False),
    (Promise.VERSIONS, node(fetcher_accepted_version=6), "a fetcher ahead", False),
    (
        Promise.HOST_CACHE,
        node(cached_units=frozenset({ARRIVING.digest})),
        "an incomplete unit",
        False,
    ),
    (Promise.HOST_CACHE, node(cached_units=frozenset({"c" * 64})), "no unit", False),
    (Promise.VERIFIED_BYTES, unit(fault="it is not a unit file"), "no header", False),
    (Promise.VERIFIED_BYTES, unit(verified_bytes=20), "complete but for some bytes", False),
    (
        Promise.VERIFIED_BYTES,
        unit(verified_prefix_bytes=20),
        "readable before it was verified",
        False,
    ),
    (Promise.VERIFIED_BYTES, unit(computed_digest="d" * 64), "other bytes", False),
    (
        Promise.ENDED_WORKER,
        worker(**{**FINISHED, "has_end": False, "has_reservation": False}),
        "a worker that ended without a time",
        False,
    ),
    (
        Promise.ENDED_WORKER,
        replace(IN_ORDER, nodes=(replace(NODE_STATE, worker_pids=frozenset({10, 11})),)),
        "a process without a worker",
        False,
    ),
    (
        Promise.ENDED_WORKER,
        replace(
            IN_ORDER,
            nodes=(NODE_STATE, NodeState("node-1", 2, frozenset({10}), None)),
        ),
        "a process of another node's worker",
        False,
    ),
    (
        Promise.ENDED_STACK,
        replace(IN_ORDER, abandoned_folders=("/dev/shm/hydraserve-1-2",)),
        "what a dead supervisor left",
        False,
    ),
]


def test_a_stack_in_order_breaks_nothing() -> None:
    assert find_broken(IN_ORDER) == ()


def test_generations_say_who_serves_where_they_are_recorded() -> None:
    """A worker that a scale-down has left behind still lives beside the entry that holds all."""
    left = replace(ENTRY, id="left", stage_index=1, first_layer=1, pid=12)
    state = records(workers=(ENTRY, left), endpoints=(replace(ENDPOINT, members=(MEMBER,)),))
    assert find_broken(state) == ()


@pytest.mark.parametrize(
    ("promise", "state", "is_always"),
    [(promise, state, is_always) for promise, state, _, is_always in POISONED],
    ids=[f"{promise.name} {reason}" for promise, _, reason, _ in POISONED],
)
def test_a_poisoned_value_breaks_its_promise_alone(
    promise: Promise, state: StackState, is_always: bool
) -> None:
    broken = find_broken(state)

    assert {found.promise for found in broken} == {promise}
    assert {found.is_always for found in broken} == {is_always}
    assert all(str(found).startswith(f"promise {promise.value}: ") for found in broken)


def test_every_promise_of_the_doctor_is_poisoned_here() -> None:
    assert {promise for promise, *_ in POISONED} == set(Promise)
