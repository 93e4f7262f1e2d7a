"""When hidden states came to a stage, from what it and the one before it have told."""

from datetime import UTC, datetime, timedelta

import pytest

from libs.common.bus.messages import Step
from services.scheduler.observation.hops import hops, mean_hop_s

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


def test_the_mean_hop_of_a_ring_does_not_depend_on_its_clocks() -> None:
    # A second from 0 to 1, one from 1 to 2, and one back. With stage 1's clock 2 s behind, the
    # first seems to take -1 s and the second 3 s.
    behind = tuple(
        step(s.name, -3, (s.ended_at - BEGAN).total_seconds() - 2) for s in MIDDLE if s.ended_at
    )

    assert mean_hop_s({0: ENTRY, 1: MIDDLE, 2: LAST}) == pytest.approx(1.0)
    assert mean_hop_s({0: ENTRY, 1: behind, 2: LAST}) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        ((*MIDDLE, step("weights", 0, 0.5), step("build_engine", 0, 1)), 1.0),
        ((*MIDDLE, step("weights", 0, 1.5)), None),
        ((*MIDDLE, step("build_engine", 0, 1.1)), None),
        ((*MIDDLE, step("device_copy", 0, None)), None),
        (MIDDLE[:1], None),
    ],
)
def test_a_hop_to_a_stage_that_could_not_compute_yet_says_nothing_of_the_way(
    middle: tuple[Step, ...], expected: float | None
) -> None:
    assert mean_hop_s({0: ENTRY, 1: middle, 2: LAST}) == expected


def test_a_whole_model_has_no_mean_hop() -> None:
    assert mean_hop_s({0: ENTRY}) is None
