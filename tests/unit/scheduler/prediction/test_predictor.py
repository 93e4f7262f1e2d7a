"""Predictions worked out by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.prediction.predictor import (
    ModelSpeed,
    Occupancy,
    StageForecast,
    predict,
)
from services.scheduler.policy.prediction.slowdown import StageShare, slowdown, slowdown_of

ALONE = StageShare(of_model=1.0, of_compute=1.0)
QUARTER = StageShare(of_model=0.25, of_compute=0.25)
FULL_QUARTER = StageShare(of_model=0.25, of_compute=1.0)
SPEED = ModelSpeed(prefill_s=0.2, step_s=0.04, hop_s=0.002, prompt_hop_s=0.002)
GB = 1_000_000_000


@pytest.mark.parametrize(
    ("num_stages", "num_full", "expected"),
    [(1, 1, 1), (2, 1, 1.5), (2, 2, 1), (3, 1, 2 + 1 / 3), (4, 1, 3.25), (4, 2, 2.5), (4, 4, 1)],
)
def test_the_slowdown_of_the_published_table(
    num_stages: int, num_full: int, expected: float
) -> None:
    assert slowdown(num_stages, num_full) == pytest.approx(expected)


@given(st.integers(1, 8), st.data())
def test_the_slowdown_is_that_of_shares_that_follow_memory(
    num_stages: int, data: st.DataObject
) -> None:
    num_full = data.draw(st.integers(0, num_stages))
    part = 1 / num_stages
    full, low = StageShare(part, 1.0), StageShare(part, part)

    stages = [full] * num_full + [low] * (num_stages - num_full)

    assert slowdown_of(stages) == pytest.approx(slowdown(num_stages, num_full))


def test_a_lone_pipeline_on_idle_devices_is_as_fast_as_one_worker() -> None:
    assert slowdown_of([FULL_QUARTER] * 4) == 1


def stage(missing_bytes: int, share: StageShare, runtime_s: float = 1.0) -> StageForecast:
    return StageForecast(
        runtime_s,
        missing_bytes,
        rate_bytes_per_s=2 * GB,
        tail_s=0.1,
        device_bytes=18 * GB,
        share=share,
    )


def test_one_worker() -> None:
    occupancy = Occupancy(18 * GB, num_full=1, consolidation_s=0.0, serving_s=60.0)

    found = predict([stage(13 * GB, ALONE)], SPEED, occupancy, waited_s=0.5)

    assert found.ready_s == pytest.approx(6.6)  # 13/2 + 0.1 of tail; its process needs 1
    assert found.ttft_s == pytest.approx(0.5 + 6.6 + 0.2)
    assert found.tpot_s == pytest.approx(0.04)
    assert found.cost_byte_s == pytest.approx(18 * GB * (6.6 + 60))


def test_four_stages_of_which_one_has_full_memory() -> None:
    low = StageForecast(1.0, 13 * GB // 4, 2 * GB, 0.1, 18 * GB // 4, QUARTER)
    entry = stage(13 * GB // 4, FULL_QUARTER)
    occupancy = Occupancy(18 * GB, num_full=1, consolidation_s=5.0, serving_s=60.0)

    found = predict([entry, low, low, low], SPEED, occupancy)

    assert found.ready_s == pytest.approx(13 / 8 + 0.1)
    assert found.slowdown == pytest.approx(3.25)
    assert found.ttft_s == pytest.approx(13 / 8 + 0.1 + 0.2 * 3.25 + 0.006)
    assert found.tpot_s == pytest.approx(0.04 * 3.25 + 0.006)
    # 31.5 GB until consolidation, 18 GB for the other 55 s.
    assert found.cost_byte_s == pytest.approx(GB * (31.5 * (13 / 8 + 0.1 + 5) + 18 * 55))


def test_a_pipeline_that_is_never_consolidated_keeps_what_it_has() -> None:
    low = StageForecast(1.0, 0, 2 * GB, 0.1, 5 * GB, QUARTER)
    occupancy = Occupancy(18 * GB, num_full=0, consolidation_s=5.0, serving_s=60.0)

    assert predict([low] * 4, SPEED, occupancy).cost_byte_s == pytest.approx(20 * GB * 61)


def test_what_is_cached_waits_for_the_process_alone() -> None:
    assert stage(0, ALONE, runtime_s=0.05).ready_s == 0.05


STAGES = st.lists(
    st.builds(
        StageForecast,
        runtime_s=st.floats(0, 30),
        missing_bytes=st.integers(0, 40 * GB),
        rate_bytes_per_s=st.floats(1e6, 1e11),
        tail_s=st.floats(0, 5),
        device_bytes=st.integers(1, 80 * GB),
        share=st.builds(StageShare, st.floats(0.01, 1), st.floats(0.01, 1)),
    ),
    min_size=1,
    max_size=8,
)


@given(STAGES, st.floats(1, 10))
def test_more_bandwidth_never_makes_the_first_token_later(
    stages: list[StageForecast], factor: float
) -> None:
    faster = [replace(s, rate_bytes_per_s=factor * s.rate_bytes_per_s) for s in stages]
    occupancy = Occupancy(18 * GB, num_full=1, consolidation_s=5.0, serving_s=60.0)

    assert predict(faster, SPEED, occupancy).ttft_s <= predict(stages, SPEED, occupancy).ttft_s


def test_what_earlier_starts_took_makes_no_network_faster() -> None:
    """4 GB at 2 GB/s: 2 s, and 0.1 s of tail, 0.2 s of prefill: 2.3 s by the formula. Twice that
    where starts took twice as long; where they took half, the bytes still need 2 s, and the prefill
    takes 0.1 s. So the formula was multiplied by 2.1 / 2.3, which takes it back to what it says."""
    occupancy = Occupancy(18 * GB, num_full=1, consolidation_s=0.0, serving_s=10.0)
    stages = [stage(4 * GB, ALONE)]

    slow, fast = (predict(stages, SPEED, occupancy, 0.0, by) for by in (2.0, 0.5))

    assert slow.ttft_s == pytest.approx(4.6) and slow.correction == pytest.approx(2.0)
    assert fast.ready_s == pytest.approx(2.0) and fast.prefill_s == pytest.approx(0.1)
    assert fast.ttft_s / fast.correction == pytest.approx(2.3)
    nothing_missing = predict([stage(0, ALONE)], SPEED, occupancy, 0.0, 0.5)
    assert nothing_missing.ready_s == pytest.approx(0.5), "a launch may have become faster"
