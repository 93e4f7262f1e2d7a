"""What a request waited for, in seconds that add up."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.slo.wait_log import WaitFor, WaitLog


def test_each_wait_lasts_until_the_next_one() -> None:
    """In the queue from 10 to 12, starting until 15, served until 20."""
    waits = WaitLog()
    waits.note(WaitFor.START, 12.0)
    waits.note(WaitFor.START, 14.0)  # told again
    waits.note(WaitFor.ENGINE, 15.0)

    assert dict(waits.seconds(10.0, 20.0)) == {
        WaitFor.ENDPOINT: 2.0,
        WaitFor.START: 3.0,
        WaitFor.ENGINE: 5.0,
    }
    assert waits.seconds(13.0, 14.0)[WaitFor.START] == 1.0
    assert waits.seconds(16.0, 20.0)[WaitFor.START] == 0.0


def test_what_is_noted_late_does_not_change_what_was_noted_before() -> None:
    waits = WaitLog()
    waits.note(WaitFor.START, 12.0)
    waits.note(WaitFor.ENGINE, 11.0)

    spent = waits.seconds(10.0, 20.0)
    assert (spent[WaitFor.ENDPOINT], spent[WaitFor.ENGINE]) == (2.0, 8.0)


@given(
    st.lists(st.tuples(st.sampled_from(WaitFor), st.integers(0, 100)), max_size=12),
    st.integers(0, 50),
    st.integers(50, 100),
)
def test_the_parts_are_the_whole_whatever_was_noted(
    notes: list[tuple[WaitFor, int]], from_s: int, until_s: int
) -> None:
    waits = WaitLog()
    for waits_for, now_s in notes:
        waits.note(waits_for, now_s)

    assert sum(waits.seconds(from_s, until_s).values()) == until_s - from_s
    middle_s = (from_s + until_s) / 2
    for one in WaitFor:
        halves = [waits.seconds(a, b)[one] for a, b in pairwise((from_s, middle_s, until_s))]
        assert sum(halves) == pytest.approx(waits.seconds(from_s, until_s)[one])
