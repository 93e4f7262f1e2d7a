from dataclasses import replace

import pytest

from services.scheduler.policy.scaling.gap_history import GapHistory, history_of
from services.scheduler.policy.scaling.giving_way import (
    BOUND_S,
    MIN_IDLE_S,
    Occupant,
    may_give_way,
    min_warm_s,
)

IDLE = Occupant(idle_s=20.0, warm_s=100.0, restart_s=5.0, gaps=GapHistory())
BUSY = replace(IDLE, idle_s=None)
FRESH = replace(IDLE, warm_s=4.9)
TALKING = replace(IDLE, idle_s=2.0, gaps=history_of([3.0] * 20))


@pytest.mark.parametrize(
    ("occupant", "waited_s", "expected", "reason"),
    [
        (IDLE, 0.0, True, "nobody uses it"),
        (replace(IDLE, idle_s=MIN_IDLE_S / 2), 0.0, False, "it answered a moment ago"),
        (FRESH, 0.0, False, "it is up for less than it took to start"),
        (replace(FRESH, warm_s=5.0), 0.0, True, "now it had its turn"),
        (BUSY, BOUND_S - 1, False, "it works"),
        (BUSY, BOUND_S, True, "somebody has waited for the bound: it ends what it runs"),
        (replace(IDLE, has_waiting=True), 10.0, False, "its own requests go first"),
        (replace(BUSY, has_waiting=True), BOUND_S, True, "but not for ever"),
        (replace(BUSY, warm_s=4.9), BOUND_S + 9, False, "a turn is a turn"),
        (TALKING, 0.0, False, "it is asked every 3 s, and would take 5 s to come back"),
        (TALKING, BOUND_S, True, "and still it gives way in the end"),
        (replace(TALKING, idle_s=8.0), 0.0, True, "this time nobody asked"),
        (replace(IDLE, gap_s=2.2), 0.0, False, "its model was asked a moment ago, elsewhere"),
        (replace(TALKING, gap_s=8.0), 0.0, True, "it has just started, and nobody asks for long"),
        (replace(IDLE, is_pinned=True), 0.0, False, "its model shall have it, whoever asks"),
        (replace(BUSY, is_pinned=True), BOUND_S, False, "and whoever waits"),
    ],
)
def test_an_endpoint_gives_way(
    occupant: Occupant, waited_s: float, expected: bool, reason: str
) -> None:
    assert may_give_way(occupant, waited_s) is expected, reason


def test_of_what_nothing_is_known_it_is_kept_no_longer_than_half_a_restart() -> None:
    # Idle for t seconds, it is asked in the next 5 with 5 / (t + 5): that is 2/3 at 2.5 s.
    assert not may_give_way(replace(IDLE, idle_s=2.2), 0.0)
    assert may_give_way(replace(IDLE, idle_s=2.8), 0.0)
    assert may_give_way(replace(IDLE, idle_s=MIN_IDLE_S, restart_s=1.25), 0.0)


def test_a_turn_is_as_long_as_a_start_but_leaves_others_theirs_within_the_bound() -> None:
    assert min_warm_s(5.0) == 5.0
    assert min_warm_s(500.0) == BOUND_S / 2
