"""When hidden states came to a stage, from what it and the one before it have told."""

from datetime import UTC, datetime, timedelta

from libs.common.bus.messages import Step
from services.scheduler.observation.hops import hops

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def step(name: str, start_s: float, end_s: float | None) -> Step:
    ended_at = None if end_s is None else BEGAN + timedelta(seconds=end_s)
    return Step(name=name, started_at=BEGAN + timedelta(seconds=start_s), ended_at=ended_at)


def hop(start_s: float, end_s: float, sender: int) -> Step:
    return step("hop", start_s, end_s).model_copy(update={"detail": f"from stage {sender}"})


ENTRY = (step("prefill", 0, 1), step("head", 6, 7))
MIDDLE = (step("prefill", 1.5, 3), step("prefill.received", 1.5, 2))
LAST = (step("prefill", 3.5, 5), step("prefill.received", 3.5, 4))


def test_each_stage_has_one_from_the_stage_before_it_and_the_entry_from_the_last() -> None:
    found = hops({0: ENTRY, 1: MIDDLE, 2: LAST})

    assert found == {0: hop(5, 6, 2), 1: hop(1, 2, 0), 2: hop(3, 4, 1)}


def test_between_clocks_that_differ_it_takes_no_less_than_no_time() -> None:
    early = (step("prefill", 0, 2.5), step("prefill.received", 0, 0.5))

    assert hops({0: ENTRY, 1: early})[1] == hop(0.5, 0.5, 0)


def test_there_is_none_before_both_ends_have_told() -> None:
    runs = (step("prefill", 1.5, None),)

    assert hops({0: ENTRY, 1: runs, 2: LAST}) == {0: hop(5, 6, 2)}
    assert hops({0: (), 1: ()}) == {}
    assert hops({1: MIDDLE, 2: LAST}) == {2: hop(3, 4, 1)}


def test_a_whole_model_has_none() -> None:
    assert hops({0: ENTRY}) == {}
