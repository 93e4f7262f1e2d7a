from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.states import EndpointState, MemberMemory
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.scaling.autoscaler import (
    EndpointBounds,
    Load,
    future_endpoints,
    missing_endpoints,
    needed_endpoints,
    surplus_endpoints,
)
from tests.unit.scheduler.values import endpoint, worker

FEW, MANY = EndpointBounds(at_most=1), EndpointBounds(at_most=4)
COUNTS = st.integers(0, 500)


@pytest.mark.parametrize(
    ("waiting", "running", "future", "bounds", "expected", "reason"),
    [
        (0, 0, 0, FEW, 0, "nobody waits: scale to zero"),
        (0, 0, 2, MANY, 0, "an endpoint that is there is enough"),
        (1, 0, 0, FEW, 1, "one request is enough for one endpoint"),
        (9, 4, 1, FEW, 0, "the model's own limit"),
        (1, 4, 1, MANY, 1, "the slots of the first are in use"),
        (4, 0, 0, MANY, 1, "four slots hold them all"),
        (5, 0, 0, MANY, 2, "a fifth needs another: both at once"),
        (16, 0, 0, MANY, 4, "a burst starts one set, not one after the other"),
        (16, 0, 1, MANY, 3, "what comes during a cold start starts beside it"),
        (100, 4, 1, MANY, 3, "the limit again"),
        (1, 0, 3, EndpointBounds(at_most=2), 0, "a lowered limit starts none"),
        (0, 0, 0, EndpointBounds(at_least=2, at_most=4), 2, "two are wanted whoever asks"),
        (9, 0, 2, EndpointBounds(at_least=2, at_most=4), 1, "and more where more are needed"),
        (0, 0, 0, EndpointBounds(at_least=3, at_most=2), 2, "the upper limit counts"),
    ],
)
def test_as_many_start_at_once_as_are_missing(
    waiting: int, running: int, future: int, bounds: EndpointBounds, expected: int, reason: str
) -> None:
    needed = needed_endpoints(Load(waiting, running), max_slots=4)

    assert missing_endpoints(needed, future, bounds) == expected, reason


def test_arrivals_ask_for_endpoints_before_the_slots_are_used_up() -> None:
    # 2 a second, each served for 5 s: ten at any time (Little). 80 % of 4 slots are 3.2: four
    # endpoints, although only eight requests, of two endpoints, are there yet.
    load = Load(num_running=8, arrivals_per_s=2.0, service_s=5.0)

    assert needed_endpoints(load, max_slots=4) == 4
    assert needed_endpoints(replace(load, arrivals_per_s=0.0), max_slots=4) == 2


def test_who_waits_counts_beside_what_is_expected_and_not_twice() -> None:
    # 20 are there now, which is more than the 10 / 0.8 = 12.5 that are expected.
    load = Load(num_waiting=12, num_running=8, arrivals_per_s=2.0, service_s=5.0)

    assert needed_endpoints(load, max_slots=4) == 5


def group(num_full: int, num_stages: int = 4) -> Endpoint:
    """A pipeline that starts."""
    workers = tuple(worker(id=f"worker-{i}", stage_index=i) for i in range(num_stages))
    starting = endpoint(workers=workers, state=EndpointState.STARTING)
    members = tuple(
        replace(m, memory=MemberMemory.FULL if i < num_full else MemberMemory.LOW)
        for i, m in enumerate(starting.members)
    )
    return replace(starting, members=members)


def test_a_pipeline_counts_as_the_endpoints_that_it_will_become() -> None:
    become = partial(future_endpoints, can_consolidate=True)
    assert become([endpoint()]) == 1
    assert become([group(num_full=0)]) == 1, "it stays a pipeline"
    assert become([group(num_full=1)]) == 1
    assert become([group(num_full=3), endpoint()]) == 4
    assert become([]) == 0

    # Twelve requests need three: they will be there.
    needed = needed_endpoints(Load(num_waiting=12), max_slots=4)
    assert missing_endpoints(needed, become([group(num_full=3)]), MANY) == 0


def test_a_pipeline_that_stays_one_counts_as_one_whatever_memory_its_members_have() -> None:
    stay = partial(future_endpoints, can_consolidate=False)
    assert stay([group(num_full=0)]) == stay([group(num_full=3)]) == 1
    assert stay([group(num_full=3), endpoint()]) == 2
    assert stay([]) == 0

    # Twelve requests need three, of which one is there.
    needed = needed_endpoints(Load(num_waiting=12), max_slots=4)
    assert missing_endpoints(needed, stay([group(num_full=3)]), MANY) == 2


@pytest.mark.parametrize(
    ("needed", "serving", "bounds", "expected", "reason"),
    [
        (1, 3, MANY, 2, "two are too many"),
        (3, 3, MANY, 0, "all are needed"),
        (0, 1, MANY, 0, "the last one goes by its keep-alive"),
        (0, 3, MANY, 2, "so do not those beside it"),
        (0, 3, EndpointBounds(at_least=2, at_most=4), 1, "two are wanted whoever asks"),
        (4, 4, FEW, 3, "its model may have one by now, however many it needs"),
        (4, 4, EndpointBounds(at_least=3, at_most=2), 2, "where they disagree the upper counts"),
    ],
)
def test_what_is_too_many_may_go(
    needed: int, serving: int, bounds: EndpointBounds, expected: int, reason: str
) -> None:
    assert surplus_endpoints(needed, serving, bounds) == expected, reason


@given(COUNTS, COUNTS, st.integers(0, 20), st.integers(0, 16), st.integers(1, 16))
def test_what_starts_never_exceeds_the_limit_and_nothing_starts_that_may_go(
    waiting: int, running: int, live: int, at_least: int, at_most: int
) -> None:
    bounds = EndpointBounds(min(at_least, at_most), at_most)
    needed = needed_endpoints(Load(waiting, running), max_slots=4)

    missing = missing_endpoints(needed, live, bounds)
    surplus = surplus_endpoints(needed, live, bounds)

    assert missing == 0 or live + missing <= at_most
    assert live + missing >= bounds.at_least
    assert missing == 0 or surplus == 0 or needed > at_most
    assert live - surplus >= min(live, max(1, bounds.at_least))


@given(COUNTS, COUNTS, st.floats(0, 100), st.floats(0, 100), st.integers(1, 64))
def test_more_load_never_needs_fewer_endpoints(
    waiting: int, running: int, rate: float, service_s: float, slots: int
) -> None:
    load = Load(waiting, running, rate, service_s)
    needed = needed_endpoints(load, slots)

    assert needed_endpoints(replace(load, num_waiting=waiting + 1), slots) >= needed
    assert needed_endpoints(replace(load, arrivals_per_s=rate + 1), slots) >= needed
    assert needed * slots >= waiting + running
