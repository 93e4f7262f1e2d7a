import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.scaling.arrivals import WINDOW_S, ArrivalWindow


def test_arrivals_count_for_ten_seconds() -> None:
    window = ArrivalWindow().add(100.2).add(100.9).add(103.0, num_arrivals=3)

    assert window.rate_per_s(103.5) == pytest.approx(5 / 10)
    assert window.rate_per_s(109.9) == pytest.approx(5 / 10)
    assert window.rate_per_s(110.0) == pytest.approx(3 / 10), "two came in second 100"
    assert not window.is_over(112.0) and window.is_over(113.0)


def test_what_is_told_late_counts_in_its_own_second() -> None:
    window = ArrivalWindow().add(105.0).add(103.0)

    assert window.rate_per_s(105.0) == pytest.approx(2 / 10)
    assert window.rate_per_s(113.0) == pytest.approx(1 / 10)
    assert window.add(90.0) == window, "that was before the window"


@given(st.lists(st.floats(0.0, 60.0), max_size=80), st.floats(60.0, 80.0))
def test_the_rate_is_that_of_the_arrivals_and_what_is_kept_is_bounded(
    arrivals: list[float], now_s: float
) -> None:
    window = ArrivalWindow()
    for at_s in arrivals:
        window = window.add(at_s)

    within = [at_s for at_s in arrivals if int(at_s) > int(now_s) - WINDOW_S]
    assert window.rate_per_s(now_s) == pytest.approx(len(within) / WINDOW_S)
    assert len(window.counts) <= WINDOW_S
