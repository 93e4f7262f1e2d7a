"""Tables of transitions: of an entry that becomes the whole endpoint, and of other workers that
become endpoints of their own."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.states import ConsolidationState
from services.scheduler.policy.consolidation import lifecycle as entry
from services.scheduler.policy.consolidation import scale_up_lifecycle as other

LOADING, COPYING = ConsolidationState.LOADING, ConsolidationState.COPYING
OVER = tuple(state for state in ConsolidationState if not state.is_open)


@dataclass(frozen=True)
class EntryCase:
    states: tuple[ConsolidationState | None, ...]
    situation: entry.Situation
    action: entry.Action
    why: str


@dataclass(frozen=True)
class OtherCase:
    states: tuple[ConsolidationState | None, ...]
    situation: other.Situation
    action: other.Action
    why: str


# In the order of the table: each row by the fact that makes it due.
ENTRY_CASES = (
    EntryCase(
        (None, LOADING, COPYING),
        entry.Situation(has_switched=True),
        entry.Action.COMPLETE,
        "its entry is the whole endpoint",
    ),
    EntryCase(
        (LOADING, COPYING),
        entry.Situation(is_serving=False),
        entry.Action.WITHDRAW,
        "the endpoint takes no more",
    ),
    EntryCase(
        (LOADING, COPYING),
        entry.Situation(is_allowed=False),
        entry.Action.WITHDRAW,
        "pipelines are not consolidated any more",
    ),
    EntryCase(
        (LOADING, COPYING),
        entry.Situation(given_up="no room"),
        entry.Action.ABANDON,
        "its entry gave up: no room",
    ),
    EntryCase(
        (LOADING,),
        entry.Situation(failed_fetch="the store is away"),
        entry.Action.ABANDON,
        "its layers could not be fetched: the store is away",
    ),
    EntryCase(
        (LOADING,),
        entry.Situation(ends_before=True),
        entry.Action.WITHDRAW,
        "nobody asks, and its keep-alive would be over first",
    ),
    EntryCase(
        (LOADING, COPYING),
        entry.Situation(is_overdue=True),
        entry.Action.ABANDON,
        "it has not switched in time",
    ),
    EntryCase(
        (LOADING,),
        entry.Situation(is_copying=True),
        entry.Action.RECORD,
        "keys and values are on their way to it",
    ),
    EntryCase((None,), entry.Situation(reason="it pays"), entry.Action.BEGIN, "it is worth it"),
)
OTHER_CASES = (
    OtherCase(
        (LOADING, COPYING),
        other.Situation(is_serving=False),
        other.Action.WITHDRAW,
        "its endpoint takes no more",
    ),
    OtherCase(
        (LOADING, COPYING),
        other.Situation(has_switched=True),
        other.Action.SEPARATE,
        "it has all layers, and its pipeline ended",
    ),
    OtherCase(
        (LOADING, COPYING),
        other.Situation(is_allowed=False),
        other.Action.WITHDRAW,
        "pipelines are not consolidated any more",
    ),
    OtherCase(
        (LOADING, COPYING),
        other.Situation(is_for_nothing=True),
        other.Action.WITHDRAW,
        "its pipeline stays one",
    ),
    OtherCase(
        (LOADING, COPYING),
        other.Situation(given_up="no room"),
        other.Action.ABANDON,
        "its worker gave up: no room",
    ),
    OtherCase(
        (LOADING, COPYING),
        other.Situation(failed_fetch="the store is away"),
        other.Action.ABANDON,
        "its layers could not be fetched: the store is away",
    ),
    OtherCase(
        (LOADING, COPYING),
        other.Situation(is_overdue=True),
        other.Action.ABANDON,
        "it has not all layers in time",
    ),
    OtherCase((None,), other.Situation(reason="it is needed"), other.Action.BEGIN, "it is needed"),
)


@pytest.mark.parametrize("state", [None, *ConsolidationState])
@pytest.mark.parametrize("case", ENTRY_CASES, ids=lambda case: case.why)
def test_each_row_of_the_entrys_table_is_made_from_its_states_alone(
    case: EntryCase, state: ConsolidationState | None
) -> None:
    due = entry.next_transition(state, case.situation)
    if state not in case.states:
        assert due is None
        return
    assert due is entry.TRANSITIONS[ENTRY_CASES.index(case)]
    assert (due.action, due.why(case.situation)) == (case.action, case.why)


@pytest.mark.parametrize("state", [None, *ConsolidationState])
@pytest.mark.parametrize("case", OTHER_CASES, ids=lambda case: case.why)
def test_each_row_of_the_other_workers_table_is_made_from_its_states_alone(
    case: OtherCase, state: ConsolidationState | None
) -> None:
    due = other.next_transition(state, case.situation)
    if state not in case.states:
        assert due is None
        return
    assert due is other.TRANSITIONS[OTHER_CASES.index(case)]
    assert (due.action, due.why(case.situation)) == (case.action, case.why)


def test_no_row_is_without_a_case() -> None:
    assert len(ENTRY_CASES) == len(entry.TRANSITIONS)
    assert len(OTHER_CASES) == len(other.TRANSITIONS)
    assert {case.action for case in ENTRY_CASES} == set(entry.Action)
    assert {case.action for case in OTHER_CASES} == set(other.Action)


@pytest.mark.parametrize(
    ("first", "then"),
    [(a, b) for a, b in combinations(ENTRY_CASES, 2) if set(a.states) & set(b.states)],
)
def test_of_two_rows_that_are_due_the_entrys_first_one_is_made(
    first: EntryCase, then: EntryCase
) -> None:
    for state in set(first.states) & set(then.states):
        due = entry.next_transition(state, _both(first.situation, then.situation))
        assert due is entry.TRANSITIONS[ENTRY_CASES.index(first)]


@pytest.mark.parametrize(
    ("first", "then"),
    [(a, b) for a, b in combinations(OTHER_CASES, 2) if set(a.states) & set(b.states)],
)
def test_of_two_rows_that_are_due_the_other_workers_first_one_is_made(
    first: OtherCase, then: OtherCase
) -> None:
    for state in set(first.states) & set(then.states):
        due = other.next_transition(state, _both(first.situation, then.situation))
        assert due is other.TRANSITIONS[OTHER_CASES.index(first)]


WORDS = st.none() | st.just("a reason")
ENTRY_SITUATIONS = st.builds(
    entry.Situation,
    *[st.booleans()] * 3,
    given_up=WORDS,
    failed_fetch=WORDS,
    is_copying=st.booleans(),
    is_overdue=st.booleans(),
    ends_before=st.booleans(),
    reason=WORDS,
)
OTHER_SITUATIONS = st.builds(
    other.Situation,
    *[st.booleans()] * 4,
    given_up=WORDS,
    failed_fetch=WORDS,
    is_overdue=st.booleans(),
    reason=WORDS,
)


@given(ENTRY_SITUATIONS, OTHER_SITUATIONS, st.sampled_from(OVER))
def test_what_is_over_stays_so(
    of_entry: entry.Situation, of_other: other.Situation, state: ConsolidationState
) -> None:
    assert entry.next_transition(state, of_entry) is None
    assert other.next_transition(state, of_other) is None


@given(ENTRY_SITUATIONS, st.sampled_from([None, LOADING, COPYING]))
def test_an_entry_that_has_switched_is_recorded_whatever_else_is_true(
    situation: entry.Situation, state: ConsolidationState | None
) -> None:
    due = entry.next_transition(state, situation)
    is_complete = due is not None and due.action is entry.Action.COMPLETE
    assert is_complete is situation.has_switched


@given(OTHER_SITUATIONS)
def test_a_worker_is_an_endpoint_only_once_it_has_switched_and_its_parent_serves(
    situation: other.Situation,
) -> None:
    due = other.next_transition(LOADING, situation)
    is_separate = due is not None and due.action is other.Action.SEPARATE
    assert is_separate is (situation.has_switched and situation.is_serving)


def _both(one: Any, another: Any) -> Any:
    """What is unusual in either."""
    usual = vars(type(one)())
    unusual = {k: v for x in (another, one) for k, v in vars(x).items() if v != usual[k]}
    return type(one)(**unusual)
