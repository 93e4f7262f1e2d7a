"""How many threads an engine computes with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.runtime.compute.thread_count import (
    HOLD_S,
    ThreadCount,
    ThreadLimits,
    next_count,
)

LIMITS = ThreadLimits(least=2, most=8)


@pytest.mark.parametrize(
    ("share", "idle_cores", "expected"),
    [
        pytest.param(1.0, 0.2, 4, id="nothing is idle: as before"),
        pytest.param(1.0, 0.8, 5, id="a core is nearly idle: one more"),
        pytest.param(1.0, 3.1, 7, id="three are"),
        pytest.param(1.0, 60.0, 8, id="never more than the device has"),
        pytest.param(None, 60.0, 8, id="an idle worker is ready for its next request"),
        pytest.param(0.9, 1.0, 5, id="a little waiting is no contention"),
        pytest.param(0.8, 1.0, 2, id="others want the same cores: back to its own share"),
        pytest.param(1.0, None, 4, id="the kernel does not say: as before"),
    ],
)
def test_the_next_number_of_threads(
    share: float | None, idle_cores: float | None, expected: int
) -> None:
    assert next_count(ThreadCount(4), LIMITS, share, idle_cores, now_s=100.0).value == expected


def test_after_contention_none_is_added_for_a_while() -> None:
    count = next_count(ThreadCount(8), LIMITS, 0.5, 0.0, now_s=100.0)

    early = next_count(count, LIMITS, 1.0, 8.0, now_s=100.0 + HOLD_S - 0.1)
    late = next_count(early, LIMITS, 1.0, 8.0, now_s=100.0 + HOLD_S)

    assert (count.value, early.value, late.value) == (2, 2, 8)


SHARES = st.none() | st.floats(0, 1)


@given(st.lists(st.tuples(SHARES, st.none() | st.floats(0, 64)), max_size=30))
def test_it_stays_between_its_own_share_and_the_whole_device(
    seen: list[tuple[float | None, float | None]],
) -> None:
    count = ThreadCount(LIMITS.least)
    for i, (share, idle_cores) in enumerate(seen):
        count = next_count(count, LIMITS, share, idle_cores, now_s=float(i))
        assert LIMITS.least <= count.value <= LIMITS.most
