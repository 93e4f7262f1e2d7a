"""When a stage's prefill begins and ends, by what its engine tells."""

import time

import pytest

from services.worker.frames.frames import StepTaken
from services.worker.runtime.prefill_steps import EntryEvents, FirstAnswer, FollowerEvents
from services.worker.runtime.start_steps import StartSteps


@pytest.fixture
def told() -> list[StepTaken]:
    return []


@pytest.fixture
def follower(told: list[StepTaken]) -> FollowerEvents:
    return FollowerEvents(FirstAnswer(StartSteps(told.append)).prefill)


def compute(follower: FollowerEvents, *, is_sampled: bool) -> None:
    """One micro-batch comes, is computed and leaves."""
    follower.received(is_sampled=is_sampled)
    follower.leaving(is_sampled=is_sampled)
    follower.left()


def has_ended(told: list[StepTaken]) -> list[bool]:
    return [step.ended_at_s is not None for step in told if step.name == "prefill"]


def test_it_lasts_from_the_first_chunk_to_the_sampled_one(
    follower: FollowerEvents, told: list[StepTaken]
) -> None:
    compute(follower, is_sampled=False)
    assert has_ended(told) == [False]

    compute(follower, is_sampled=True)

    assert has_ended(told) == [False, True]
    assert told[0].started_at_s == told[1].started_at_s


def test_it_runs_while_its_first_chunk_waits_for_weights(
    follower: FollowerEvents, told: list[StepTaken]
) -> None:
    follower.received(is_sampled=True)

    assert has_ended(told) == [False]


def test_its_end_is_told_before_what_ends_it_leaves(
    follower: FollowerEvents, told: list[StepTaken]
) -> None:
    follower.received(is_sampled=True)
    follower.leaving(is_sampled=True)

    assert [step.name for step in told] == ["prefill", "prefill"]


def test_what_comes_after_it_is_told_no_more(
    follower: FollowerEvents, told: list[StepTaken]
) -> None:
    for is_sampled in (False, True, True):
        compute(follower, is_sampled=is_sampled)

    assert has_ended(told) == [False, True]
    assert [step.name for step in told] == ["prefill", "prefill", "prefill.received"]


def test_what_the_first_token_depends_on_was_received_with_the_sampled_chunk(
    follower: FollowerEvents, told: list[StepTaken]
) -> None:
    compute(follower, is_sampled=False)
    assert "prefill.received" not in {step.name for step in told}

    follower.received(is_sampled=True)
    between_s = time.time()
    follower.leaving(is_sampled=True)
    follower.left()

    begun, ended, received = told
    assert received.name == "prefill.received"
    assert received.started_at_s == begun.started_at_s
    assert received.ended_at_s is not None and ended.ended_at_s is not None
    assert begun.started_at_s <= received.ended_at_s <= between_s <= ended.ended_at_s


def test_the_entrys_prefill_leaves_it_and_its_head_begins_with_what_comes_back(
    told: list[StepTaken],
) -> None:
    answer = FirstAnswer(StartSteps(told.append))
    entry = EntryEvents(answer)
    answer.prefill.begin()

    entry.leaving(is_sampled=False)
    assert has_ended(told) == [False]
    entry.leaving(is_sampled=True)
    assert has_ended(told) == [False, True]
    answer.head.end()  # nothing has come back: there was no head yet
    entry.received(is_sampled=False)
    answer.head.end()  # a chunk of the prompt that nothing is sampled from
    entry.received(is_sampled=True)
    for _ in range(2):
        answer.prefill.end()
        answer.head.end()

    assert [step.name for step in told] == ["prefill", "prefill", "head"]
    (head,) = told[2:]
    assert head.ended_at_s is not None and told[1].ended_at_s is not None
    assert told[1].ended_at_s <= head.started_at_s <= head.ended_at_s
