import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.scaling.gap_history import EDGES_S, GapHistory, history_of
from services.scheduler.policy.scaling.keep_alive import KeepAlivePlan, plan_keep_alive, price_s
from tests.unit.scheduler.scaling.gap_patterns import (
    PATTERNS,
    Outcome,
    best_fixed,
    of_auto,
    of_fixed,
)

RESTART_S = 5.0  # so a cold start is worth 300 s of an idle endpoint
SEEDS = (1, 2, 3)


def test_of_what_nothing_is_known_an_endpoint_stays_as_long_as_a_cold_start_is_worth() -> None:
    # The hazard at age t is 1/t, so that another second is worth its memory while 300/t > 1. The
    # bin [256, 304.4) is the last of which that holds: 0.159 x 300 = 47.7 s for 48.4 x 0.92 = 44.6.
    assert price_s(RESTART_S, RESTART_S) == 300.0
    assert plan_keep_alive(GapHistory(), RESTART_S, RESTART_S) == KeepAlivePlan(2**8.25)
    # 60 s: the bin [53.8, 64) is worth 0.159 x 60 = 9.5 s, and takes 10.2 x 0.92 = 9.4 s.
    assert plan_keep_alive(GapHistory(), 1.0, 1.0).keep_s == 64.0


def test_a_start_that_is_in_time_is_worth_the_memory_that_it_holds_meanwhile() -> None:
    # 5 s. The bin [4.76, 5.66) is worth 0.159 x 5 = 0.80 s, and takes 0.90 x 0.92 = 0.83 s.
    assert price_s(RESTART_S, 0.0) == 5.0
    assert plan_keep_alive(GapHistory(), RESTART_S, 0.0).keep_s == 2**2.25
    # A tenth of a second late is worth 6 s, and 5 s before they are lost count once.
    assert price_s(RESTART_S, 0.1) == 6.0


def test_one_that_is_asked_every_ten_minutes_is_released_and_started_ahead() -> None:
    plan = plan_keep_alive(history_of([600.0] * 100), RESTART_S, RESTART_S)

    # All gaps end in [512, 608.9). To be there then takes 5 s for the start and 97 x (1 - 0.96/2) =
    # 50 s of waiting, instead of 0.96 x 300 s. Before, a bin ends 0.159/21 = 0.8 % of the gaps: it
    # is worth at most 2.3 s, less than each bin from 19 s on takes.
    assert (plan.ahead_from_s, plan.ahead_until_s) == (512.0, 2**9.25)
    assert plan.keep_s < 20.0
    assert plan.holds(10.0) and not plan.holds(100.0) and plan.holds(600.0)
    assert not plan.holds(700.0)
    assert not plan.starts_ahead(506.0, RESTART_S) and plan.starts_ahead(507.0, RESTART_S)
    assert not plan.starts_ahead(609.0, RESTART_S), "it did not come this time"


def test_one_that_is_asked_every_hour_is_started_ahead_only_where_a_start_takes_long() -> None:
    hourly = history_of([3600.0] * 100)  # in [3444, 4096): to wait for it takes some 340 s

    assert plan_keep_alive(hourly, 5.0, 5.0).ahead_from_s is None, "a cold start is worth 300 s"
    assert plan_keep_alive(hourly, 30.0, 30.0).ahead_from_s == 2**11.75


def test_one_that_is_asked_all_the_time_stays_for_as_long_as_nothing_else_was_seen() -> None:
    # Every gap ended in 10 s: older ages were never seen, and the prior decides about them.
    assert plan_keep_alive(history_of([10.0] * 100), RESTART_S, RESTART_S).keep_s == 2**8.25


def test_between_bursts_it_is_released_soon_and_within_them_it_stays() -> None:
    # Nine short gaps, then a pause of 5,000 s that no endpoint is worth.
    plan = plan_keep_alive(history_of(([4.0] * 9 + [5000.0]) * 10), RESTART_S, RESTART_S)

    assert 4.0 < plan.keep_s < 40.0
    assert plan.ahead_from_s is None


@given(
    st.lists(st.floats(0.0, 1e6), max_size=40),
    st.floats(0.1, 600.0),
)
def test_a_plan_is_ordered_and_a_dearer_start_never_shortens_it(
    gaps: list[float], restart_s: float
) -> None:
    history = history_of(gaps)
    plan = plan_keep_alive(history, restart_s, restart_s)
    dearer = plan_keep_alive(history, 2 * restart_s, 2 * restart_s)

    assert plan.keep_s in EDGES_S
    assert dearer.keep_s >= plan.keep_s
    if plan.ahead_from_s is not None and plan.ahead_until_s is not None:
        assert plan.keep_s <= plan.ahead_from_s < plan.ahead_until_s


@given(st.lists(st.floats(0.0, 1e6), max_size=40))
def test_what_was_worth_its_memory_a_moment_ago_is_not_left_within_a_bin(
    gaps: list[float],
) -> None:
    plan = plan_keep_alive(history_of(gaps), RESTART_S, RESTART_S)

    for low, high in pairwise(EDGES_S):
        assert plan.holds(low) == plan.holds((low + high) / 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PATTERNS)
def test_auto_has_hardly_more_cold_starts_than_the_best_fixed_value_of_its_memory(
    name: str, seed: int
) -> None:
    """Of each pattern alone, whose best value nobody knows before: 10 % more at most. Where gaps
    are memoryless nobody can have fewer."""
    gaps = PATTERNS[name](random.Random(seed))

    auto = of_auto(gaps, RESTART_S)
    fixed = best_fixed(gaps, RESTART_S, auto.held_s)

    assert auto.num_cold <= 1.1 * fixed.num_cold + 2
    if name == "periodic":
        assert auto.num_cold < fixed.num_cold / 20


@pytest.mark.parametrize("seed", SEEDS)
def test_auto_has_fewer_cold_starts_than_any_fixed_value_for_all_of_the_same_memory(
    seed: int,
) -> None:
    """One value for models of all patterns together, as people set it."""
    everybody = [pattern(random.Random(seed)) for pattern in PATTERNS.values()]
    auto = sum((of_auto(gaps, RESTART_S) for gaps in everybody), Outcome(0, 0.0))
    outcomes = [
        sum((of_fixed(gaps, keep_s, RESTART_S) for gaps in everybody), Outcome(0, 0.0))
        for keep_s in (0.0, *EDGES_S)
    ]

    no_dearer = [outcome for outcome in outcomes if outcome.held_s <= auto.held_s]
    assert auto.num_cold < 0.85 * min(outcome.num_cold for outcome in no_dearer)
    assert auto.cost(RESTART_S) < min(outcome.cost(RESTART_S) for outcome in outcomes)


@pytest.mark.parametrize("name", PATTERNS)
def test_what_auto_costs_is_close_to_the_best_fixed_value_of_a_pattern(name: str) -> None:
    """Looking back; with what it takes to learn it."""
    gaps = PATTERNS[name](random.Random(1))

    auto = of_auto(gaps, RESTART_S).cost(RESTART_S)
    best = min(of_fixed(gaps, keep_s, RESTART_S).cost(RESTART_S) for keep_s in (0.0, *EDGES_S))

    assert auto <= 1.1 * best
