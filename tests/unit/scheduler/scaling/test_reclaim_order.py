import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.scaling.gap_history import GapHistory, history_of
from services.scheduler.policy.scaling.reclaim_order import cheapest_first, expected_loss_s
from tests.unit.scheduler.values import NOW_S, endpoint

NOTHING_KNOWN = GapHistory()


def test_the_loss_is_a_restart_times_how_likely_it_is_needed() -> None:
    # Idle for 64 s, of which nothing is known: half of such gaps end before 128 s.
    assert expected_loss_s(NOTHING_KNOWN, 10.0, 64.0, kept_for_s=64.0) == pytest.approx(5.0)
    # In the five minutes at most: 1 - 64 / 364.
    assert expected_loss_s(NOTHING_KNOWN, 10.0, 64.0) == pytest.approx(10 * 300 / 364, rel=0.01)


def test_what_would_have_gone_anyway_costs_nothing() -> None:
    assert expected_loss_s(NOTHING_KNOWN, 10.0, 64.0, kept_for_s=0.0) == 0.0
    assert expected_loss_s(NOTHING_KNOWN, 10.0, 64.0, kept_for_s=-3.0) == 0.0


def test_of_what_nothing_is_known_the_longest_idle_goes_first_as_ever() -> None:
    idle = [idle_for("young", 10.0), idle_for("old", 90.0), idle_for("middle", 30.0)]

    order = cheapest_first(idle, lambda e: expected_loss_s(NOTHING_KNOWN, 5.0, _idle_s(e)))

    assert _ids(order) == ["old", "middle", "young"]


def test_one_that_is_expected_stays_although_it_has_been_idle_for_longer() -> None:
    gaps = {"hourly": history_of([3600.0] * 20), "at random": NOTHING_KNOWN}
    idle = [idle_for("hourly", 3500.0), idle_for("at random", 60.0)]

    order = cheapest_first(idle, lambda e: expected_loss_s(gaps[e.id], 5.0, _idle_s(e)))

    # It is asked within 5 min with some 40 % (its bin is [3444, 4096)), the other with 300 / 360.
    assert _ids(order) == ["hourly", "at random"]
    later = [idle_for("hourly", 3900.0), idle_for("at random", 600.0)]
    order = cheapest_first(later, lambda e: expected_loss_s(gaps[e.id], 5.0, _idle_s(e)))
    # Now with 90 %; the other with 300 / 900.
    assert _ids(order) == ["at random", "hourly"]


def test_one_that_is_quickly_back_goes_before_one_that_takes_long() -> None:
    restarts_s = {"small": 1.0, "large": 20.0}
    idle = [idle_for("large", 60.0), idle_for("small", 50.0)]

    order = cheapest_first(
        idle, lambda e: expected_loss_s(NOTHING_KNOWN, restarts_s[e.id], _idle_s(e))
    )

    assert _ids(order) == ["small", "large"]


def test_busy_ones_come_last_and_those_first_that_have_served_the_longest() -> None:
    busy = [
        endpoint(id="new", idle_since_s=None, ready_since_s=NOW_S - 1.0),
        endpoint(id="old", idle_since_s=None, ready_since_s=NOW_S - 9.0),
        endpoint(id="unknown", idle_since_s=None),
    ]

    order = cheapest_first([*busy, idle_for("dear", 1.0)], lambda e: 1e9)

    assert _ids(order) == ["dear", "unknown", "old", "new"]


@given(st.lists(st.floats(0.0, 1e5), max_size=30), st.floats(0.1, 100.0), st.floats(0.0, 1e5))
def test_the_loss_is_never_more_than_a_restart_and_grows_with_the_horizon(
    gaps: list[float], restart_s: float, idle_s: float
) -> None:
    history = history_of(gaps)

    losses = [expected_loss_s(history, restart_s, idle_s, kept) for kept in (0.0, 10.0, 1e4)]

    assert losses == sorted(losses)
    assert 0.0 <= losses[0] and losses[-1] <= restart_s


def idle_for(name: str, seconds: float) -> Endpoint:
    return endpoint(id=name, idle_since_s=NOW_S - seconds)


def _idle_s(of: Endpoint) -> float:
    idle_s = of.idle_s(NOW_S)
    assert idle_s is not None
    return idle_s


def _ids(endpoints: list[Endpoint]) -> list[str]:
    return [one.id for one in endpoints]
