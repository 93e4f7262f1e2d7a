"""Shares of a device's compute, worked out by hand, and what holds for all of them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.prediction.device_shares import (
    DeviceNeighbour,
    expected_share,
)
from services.scheduler.policy.prediction.slowdown import StageShare, slowdown, slowdown_of

A = DeviceNeighbour(memory_share=0.5, demand=0.2)
B = DeviceNeighbour(memory_share=0.25, demand=1.0)
BUSY_A = DeviceNeighbour(memory_share=0.5, demand=1.0)
IDLE_B = DeviceNeighbour(memory_share=0.25, demand=0.0)


@pytest.mark.parametrize(
    ("neighbours", "expected"),
    [
        pytest.param([], 1.0, id="alone it has all"),
        pytest.param([IDLE_B, DeviceNeighbour(0.5, 0.0)], 1.0, id="idle ones take nothing"),
        pytest.param([A, B], 0.4, id="A takes its 0.2, the rest is halved"),
        pytest.param([B], 0.5, id="two of equal weight"),
        pytest.param([A, IDLE_B], 0.8, id="what A leaves"),
        pytest.param([BUSY_A, B], 0.25, id="all are busy: as memory is"),
        # A wants 0.9 and its part beside the worker is 2/3: it gets that, the worker 1/3.
        pytest.param([DeviceNeighbour(0.5, 0.9)], 1 / 3, id="more than its part is not had"),
        # Of equal weight the parts are 1/3; 0.1 is less, then of 0.9 the parts are 0.45 > 0.4.
        pytest.param(
            [DeviceNeighbour(0.25, 0.4), DeviceNeighbour(0.25, 0.1)],
            0.5,
            id="both get what they want, one only after the other has left some",
        ),
    ],
)
def test_what_a_worker_with_a_quarter_of_the_memory_gets(
    neighbours: list[DeviceNeighbour], expected: float
) -> None:
    assert expected_share(0.25, neighbours) == pytest.approx(expected)
    assert expected_share(0.25, neighbours[::-1]) == pytest.approx(expected)


SHARES = st.floats(0.001, 1.0)
FRACTIONS = st.floats(0.0, 1.0)
NEIGHBOURS = st.lists(st.builds(DeviceNeighbour, SHARES, FRACTIONS), max_size=8)
NEAR = 1e-9


@given(SHARES, NEIGHBOURS)
def test_it_is_never_above_one_nor_below_what_its_weight_is_due(
    memory_share: float, neighbours: list[DeviceNeighbour]
) -> None:
    share = expected_share(memory_share, neighbours)

    weights = memory_share + sum(n.memory_share for n in neighbours)
    assert memory_share / weights - NEAR <= share <= 1
    assert share >= 1 - sum(n.demand for n in neighbours) - NEAR


@given(SHARES, NEIGHBOURS)
def test_more_neighbours_never_raise_it(
    memory_share: float, neighbours: list[DeviceNeighbour]
) -> None:
    shares = [expected_share(memory_share, neighbours[:n]) for n in range(len(neighbours) + 1)]

    assert shares[0] == 1
    assert all(more <= fewer + NEAR for fewer, more in pairwise(shares))


@given(SHARES, NEIGHBOURS, st.builds(DeviceNeighbour, SHARES, FRACTIONS), FRACTIONS)
def test_a_neighbour_that_wants_more_never_raises_it(
    memory_share: float, others: list[DeviceNeighbour], one: DeviceNeighbour, more: float
) -> None:
    busier = DeviceNeighbour(one.memory_share, max(one.demand, more))

    before = expected_share(memory_share, [*others, one])
    assert expected_share(memory_share, [*others, busier]) <= before + NEAR


@given(SHARES, SHARES, NEIGHBOURS)
def test_more_memory_never_lowers_it(
    one: float, other: float, neighbours: list[DeviceNeighbour]
) -> None:
    small, large = sorted((one, other))

    assert expected_share(large, neighbours) >= expected_share(small, neighbours) - NEAR


@given(SHARES, NEIGHBOURS)
def test_together_nobody_gets_more_than_there_is(
    memory_share: float, neighbours: list[DeviceNeighbour]
) -> None:
    """Each neighbour gets what it wants, or what it would if it wanted all."""
    asking = DeviceNeighbour(memory_share, 1.0)
    total = expected_share(memory_share, neighbours)
    for i, neighbour in enumerate(neighbours):
        others = [*neighbours[:i], *neighbours[i + 1 :], asking]
        total += min(neighbour.demand, expected_share(neighbour.memory_share, others))

    assert total == pytest.approx(1)


@pytest.mark.parametrize("num_stages", [1, 2, 3, 4])
def test_among_busy_neighbours_on_full_devices_the_slowdown_is_the_published_one(
    num_stages: int,
) -> None:
    """On each device others hold, and use, what the stage does not."""
    part = 1 / num_stages
    others = [DeviceNeighbour(1 - part, 1.0)] if num_stages > 1 else []

    stages = [StageShare(part, expected_share(part, others))] * num_stages

    assert slowdown_of(stages) == pytest.approx(slowdown(num_stages, 0 if num_stages > 1 else 1))


def test_on_idle_devices_a_pipeline_is_as_fast_as_one_worker() -> None:
    assert slowdown_of([StageShare(0.25, expected_share(0.1, [IDLE_B]))] * 4) == 1
