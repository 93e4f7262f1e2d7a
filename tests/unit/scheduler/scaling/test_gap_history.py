from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.scaling.gap_history import (
    DECAY,
    EDGES_S,
    NUM_BINS,
    GapHistory,
    bin_of,
    history_of,
)

GAPS = st.lists(st.floats(0.0, 1e6), max_size=60)


def test_bins_grow_by_a_quarter_of_an_octave_from_a_second_to_three_days() -> None:
    assert EDGES_S[0] == 0.0 and EDGES_S[1] == 1.0
    assert EDGES_S[5] == 2.0 and EDGES_S[9] == 4.0
    assert EDGES_S[-1] == 2**18
    assert bin_of(0.5) == 0 and bin_of(1.0) == 1 and bin_of(2.0) == 5
    assert bin_of(-1.0) == 0, "two clocks may disagree about an instant"
    assert bin_of(10**7) == NUM_BINS


@pytest.mark.parametrize(
    ("idle_s", "horizon_s", "expected", "reason"),
    [
        (0.0, 1.0, 1 / 2, "half of all gaps are shorter than a second"),
        (1.0, 1.0, 1 / 2, "of those that lasted a second, half are shorter than two"),
        (64.0, 64.0, 1 / 2, "and so on"),
        (64.0, 192.0, 3 / 4, "a quarter of those lasts four times as long"),
        (2.0**18, 2.0**18, 1 / 2, "also past the last bin"),
    ],
)
def test_of_what_nothing_is_known_half_ends_before_it_is_twice_as_old(
    idle_s: float, horizon_s: float, expected: float, reason: str
) -> None:
    assert GapHistory().asked_within(idle_s, horizon_s) == pytest.approx(expected), reason


def test_one_gap_counts_as_much_as_the_prior_in_the_bins_that_it_reached() -> None:
    history = GapHistory().add(100.0)  # in [2**6.5, 2**6.75), where the prior says 1 - 2**-0.25

    # Its own bin: (1 + 0.1591) / 2. A bin that it passed: (0 + 0.1591) / 2. One that it did not
    # reach: 0.1591, as before.
    own = bin_of(100.0)
    assert history.end_shares[own] == pytest.approx(0.5796, abs=1e-4)
    assert history.end_shares[own - 1] == pytest.approx(0.0796, abs=1e-4)
    assert history.end_shares[own + 1] == pytest.approx(0.1591, abs=1e-4)
    # Less than a second: (0 + 0.5) / 2. Until 2 s: 0.75 x (1 - 0.0796)**4 last.
    assert history.survival(1.0) == pytest.approx(0.75)
    assert history.survival(2.0) == pytest.approx(0.75 * 0.9204**4, abs=1e-3)


def test_a_newer_gap_weighs_more_than_the_one_before() -> None:
    own = bin_of(10.0)

    history = history_of([10.0, 1000.0])

    # Two reached the bin, the older with the weight DECAY, and that one ended in it.
    assert history.reached[own] == pytest.approx(DECAY + 1.0)
    assert history.ended[own] == pytest.approx(DECAY)


def test_a_burst_does_not_wipe_out_what_is_known_of_pauses() -> None:
    pauses = history_of([3000.0] * 10)

    after = pauses
    for _ in range(1000):
        after = after.add(2.0)

    assert after.asked_within(1000.0, 3000.0) == pytest.approx(
        pauses.asked_within(1000.0, 3000.0), abs=1e-9
    )
    assert after.asked_within(1000.0, 3000.0) > 0.8
    assert after.asked_within(0.0, 4.0) > 0.9 > pauses.asked_within(0.0, 4.0)


def test_of_gaps_that_were_all_alike_the_next_one_is_expected_then() -> None:
    history = history_of([600.0] * 20)  # in [512, 609)

    # They weigh (1 - 0.95**20) / 0.05 = 12.8 beside the prior's 1. Of the 36 bins from 1 s to 512 s
    # each ends 0.159 / 13.8 = 1.2 %, and the first 0.5 / 13.8; their own (12.8 + 0.159) / 13.8.
    assert history.asked_within(0.0, 512.0) == pytest.approx(0.366, abs=0.005)
    assert history.asked_within(512.0, 96.9) == pytest.approx(0.939, abs=0.002)


@given(GAPS, st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_shares_of_gaps_are_shares_and_the_longer_the_horizon_the_likelier(
    gaps: list[float], idle_s: float, horizon_s: float
) -> None:
    history = history_of(gaps)

    assert all(0.0 < share < 1.0 for share in history.end_shares)
    soon, later = history.asked_within(idle_s, horizon_s), history.asked_within(idle_s, 1e7)
    assert -1e-9 <= soon <= later + 1e-9 <= 1.0 + 1e-9


@given(GAPS)
def test_survival_falls_from_edge_to_edge_without_a_jump(gaps: list[float]) -> None:
    history = history_of(gaps)

    for edge_s in EDGES_S[1:]:
        before, at = history.survival(edge_s * (1 - 1e-9)), history.survival(edge_s)
        assert isclose(before, at, rel_tol=1e-6)
        assert at <= history.survival(edge_s / 2)


@given(GAPS)
def test_no_bin_knows_more_than_twenty_gaps(gaps: list[float]) -> None:
    history = history_of(gaps)

    most = 1 / (1 - DECAY) + 1e-9
    for ended, reached in zip(history.ended, history.reached, strict=True):
        assert 0.0 <= ended <= reached <= most
