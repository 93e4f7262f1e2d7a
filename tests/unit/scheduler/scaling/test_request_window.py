"""When a model is likely to be asked, by its own gaps."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.scaling.activity import MAX_LEAD_S, ModelActivity
from services.scheduler.policy.scaling.gap_history import GapHistory, history_of
from services.scheduler.policy.scaling.request_window import MIN_SHARE, likely_window
from tests.unit.scheduler.scaling.gap_patterns import poisson

REGULAR = history_of([600.0] * 40)


def test_a_model_that_is_asked_every_ten_minutes_is_likely_to_be_asked_around_then() -> None:
    window = likely_window(REGULAR, 16.0)

    assert window is not None
    # 600 s is in the bin from 2**9 s on. Of the two pairs of bins with it the earlier one has more.
    assert window.from_s == pytest.approx(2**8.75)  # 430.5
    assert window.until_s == pytest.approx(2**9.25)  # 608.9
    # Forty gaps weigh W = (1 - 0.95**40) / 0.05 = 17.43, all of which end in it: W / (W + 1).
    assert window.share == pytest.approx(0.946, abs=0.001)


def test_of_gaps_that_last_until_there_those_count_that_end_in_it() -> None:
    """Of five, oldest first, the third is twice as long, and the last one ends while the endpoint
    is there. The other three weigh 0.95**3 + 0.95**2 + 1 = 2.76, all four that outlast it
    W = 3.71: 2.76 / 3.71 * 3.71 / 4.71."""
    window = likely_window(history_of([600.0, 600.0, 1200.0, 600.0, 9.0]), 16.0)

    assert window is not None
    assert window.share == pytest.approx(2.76 / 4.71, abs=0.001)


@pytest.mark.parametrize(("num_gaps", "is_known"), [(0, False), (2, False), (3, True)])
def test_three_gaps_are_enough_to_know_it(num_gaps: int, is_known: bool) -> None:
    window = likely_window(history_of([600.0] * num_gaps), 76.0)

    assert (window is not None) is is_known


def test_of_bursts_with_pauses_it_is_the_pause_that_counts_once_the_endpoint_has_gone() -> None:
    history = history_of(([2.0] * 9 + [3600.0]) * 12)

    window = likely_window(history, 60.0)

    assert window is not None and window.from_s < 3600.0 < window.until_s


def test_what_ends_while_the_endpoint_is_there_is_no_window() -> None:
    assert likely_window(REGULAR, 700.0) is None


@pytest.mark.parametrize("mean_s", [60.0, 600.0, 6000.0])
def test_a_model_that_is_asked_at_random_hardly_ever_has_one(mean_s: float) -> None:
    """An endpoint stays for half of the mean gap. By chance some twenty gaps may look regular."""
    history, num_windows = GapHistory(), 0
    for gap_s in poisson(mean_s)(random.Random(7)):
        history = history.add(gap_s)
        num_windows += likely_window(history, mean_s / 2) is not None

    assert num_windows <= 0.03 * 600


@given(
    st.lists(st.floats(0.0, 400_000.0), max_size=60),
    st.one_of(st.floats(0.0, 300_000.0), st.sampled_from([0.0, 16.0, 512.0])),
)
def test_a_window_is_half_an_octave_in_which_half_of_the_gaps_end(
    gaps_s: list[float], keep_s: float
) -> None:
    history = history_of(gaps_s)

    window = likely_window(history, keep_s)

    if window is not None:
        assert window.from_s >= keep_s and len(gaps_s) >= 3
        assert window.until_s == pytest.approx(2**0.5 * window.from_s)
        assert MIN_SHARE <= window.share < 1.0


def test_a_model_is_looked_at_some_time_before_its_window_begins() -> None:
    activity = ModelActivity(REGULAR).started(5.0, 5.0).rested(1000.0)

    # Its endpoint stays for 16 s, and the window begins earlier than a quarter of an hour later.
    assert activity.prefetch_at_s == 1000.0 + 16.0
    assert activity.expected_at_s == pytest.approx(1000.0 + 430.5, abs=0.1)
    assert activity.prefetch_until_s == pytest.approx(1000.0 + 608.9, abs=0.1)


def test_no_fetch_begins_earlier_than_a_quarter_of_an_hour_before_the_window() -> None:
    activity = ModelActivity(history_of([7200.0] * 40)).started(5.0, 5.0).rested(1000.0)

    assert activity.expected_at_s is not None
    assert activity.prefetch_at_s == activity.expected_at_s - MAX_LEAD_S


def test_nothing_is_known_of_a_model_that_works_or_was_never_asked() -> None:
    working = ModelActivity(REGULAR).started(5.0, 5.0)

    assert (working.prefetch_at_s, working.prefetch_until_s) == (None, None)
    assert ModelActivity().rested(1000.0).prefetch_at_s is None
