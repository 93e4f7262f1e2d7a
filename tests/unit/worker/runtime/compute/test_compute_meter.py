"""What a process got of the processor time that it wanted, by numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.runtime.compute.compute_meter import (
    HALF_LIFE_S,
    ComputeFigures,
    ComputeMeter,
    Interval,
    interval,
)
from services.worker.runtime.compute.cpu_times import ThreadTime

MS = 1_000_000


def test_an_interval_adds_up_what_the_threads_did_in_it() -> None:
    before = {1: ThreadTime(100 * MS, 10 * MS), 2: ThreadTime(50 * MS, 0)}
    now = {
        1: ThreadTime(400 * MS, 110 * MS),  # 300 and 100
        3: ThreadTime(60 * MS, 20 * MS),  # began in it; thread 2 has ended
    }

    assert interval(before, now, 0.5) == Interval(0.5, run_s=0.36, wait_s=0.12)


@pytest.mark.parametrize(
    ("run_s", "wait_s", "share", "demand"),
    [
        pytest.param(1.0, 0.0, 1.0, 0.5, id="one of two cores, whenever it wanted"),
        pytest.param(2.0, 0.0, 1.0, 1.0, id="both"),
        pytest.param(0.5, 0.5, 0.5, 0.5, id="every other moment of one"),
        pytest.param(1.0, 3.0, 0.25, 1.0, id="four threads wait for two cores: no more than all"),
        pytest.param(0.0, 0.0, None, 0.0, id="it had nothing to do"),
        pytest.param(0.01, 0.0, None, 0.005, id="too little to say anything"),
    ],
)
def test_share_and_demand_of_a_second_on_two_cores(
    run_s: float, wait_s: float, share: float | None, demand: float
) -> None:
    assert ComputeMeter(2).add(Interval(1.0, run_s, wait_s)) == ComputeFigures(share, demand)


def test_what_is_older_weighs_less() -> None:
    meter = ComputeMeter(1)
    meter.add(Interval(HALF_LIFE_S, run_s=2.0, wait_s=0.0))

    figures = meter.add(Interval(HALF_LIFE_S, run_s=1.0, wait_s=1.0))

    # The first weighs half: run 1 + 1, wait 1 + 0, wall 2 + 1.
    assert figures == ComputeFigures(share=round(2 / 3, 3), demand=1.0)


def test_after_a_while_without_work_nothing_is_known_and_nothing_wanted() -> None:
    meter = ComputeMeter(1)
    meter.add(Interval(1.0, run_s=1.0, wait_s=0.0))

    for _ in range(20):
        figures = meter.add(Interval(1.0, 0.0, 0.0))

    assert figures.share is None and figures.demand == 0.0


SECONDS = st.floats(0, 100)


@given(st.lists(st.tuples(st.floats(0.01, 100), SECONDS, SECONDS), min_size=1), st.integers(1, 64))
def test_both_are_fractions_whatever_was_measured(
    intervals: list[tuple[float, float, float]], num_cores: int
) -> None:
    meter = ComputeMeter(num_cores)
    for wall_s, run_s, wait_s in intervals:
        figures = meter.add(Interval(wall_s, run_s, wait_s))
        assert figures.share is None or 0 <= figures.share <= 1
        assert figures.demand is not None and 0 <= figures.demand <= 1
