"""When a stage's prefill begins and ends, as the micro-batches that pass by tell."""

import time
from collections import deque

import pytest
import torch

from services.worker.engine.execution.microbatch import MicroBatch, Piece
from services.worker.engine.execution.ring import Arrival
from services.worker.frames.frames import StepTaken
from services.worker.runtime.prefill_steps import EntryRing, FirstAnswer, PrefillRing
from services.worker.runtime.start_steps import StartSteps

HIDDEN = torch.zeros(4, 8)
FIRST_CHUNK = MicroBatch(0, (), (Piece(0, 0, 4, is_sampled=False),))
LAST_CHUNK = MicroBatch(1, (), (Piece(0, 4, 4, is_sampled=True),))


class Previous:
    """A ring whose micro-batches have all come already."""

    def __init__(self, *batches: MicroBatch) -> None:
        self._waiting = deque(Arrival(batch, HIDDEN) for batch in batches)

    def send(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        """To nobody."""

    def receive(self, timeout_s: float) -> Arrival | None:
        return self._waiting.popleft() if self._waiting else None

    def wake(self) -> None:
        """Nobody waits."""


@pytest.fixture
def told() -> list[StepTaken]:
    return []


@pytest.fixture
def ring(told: list[StepTaken]) -> PrefillRing:
    prefill = FirstAnswer(StartSteps(told.append)).prefill
    return PrefillRing(Previous(FIRST_CHUNK, LAST_CHUNK, LAST_CHUNK), prefill)


def has_ended(told: list[StepTaken]) -> list[bool]:
    return [step.ended_at_s is not None for step in told if step.name == "prefill"]


def test_it_lasts_from_the_first_chunk_to_the_sampled_one(
    ring: PrefillRing, told: list[StepTaken]
) -> None:
    ring.receive(0)
    ring.send(FIRST_CHUNK, HIDDEN)
    assert has_ended(told) == [False]

    ring.receive(0)
    ring.send(LAST_CHUNK, HIDDEN)

    assert has_ended(told) == [False, True]
    assert told[0].started_at_s == told[1].started_at_s


def test_the_last_stage_ends_it_with_the_first_rows_that_it_sends_back(
    ring: PrefillRing, told: list[StepTaken]
) -> None:
    ring.receive(0)
    ring.send(FIRST_CHUNK.answer, HIDDEN[:0])
    assert has_ended(told) == [False]

    ring.receive(0)
    ring.send(LAST_CHUNK.answer, HIDDEN[:1])

    assert has_ended(told) == [False, True]


def test_what_comes_after_it_is_told_no_more(ring: PrefillRing, told: list[StepTaken]) -> None:
    for batch in (FIRST_CHUNK, LAST_CHUNK, LAST_CHUNK):
        assert ring.receive(0) is not None
        ring.send(batch, HIDDEN)
    assert ring.receive(0) is None
    assert has_ended(told) == [False, True]
    assert [step.name for step in told] == ["prefill", "prefill", "prefill.received"]


def test_what_the_first_token_depends_on_was_received_with_the_sampled_chunk(
    ring: PrefillRing, told: list[StepTaken]
) -> None:
    ring.receive(0)
    ring.send(FIRST_CHUNK, HIDDEN)
    assert "prefill.received" not in {step.name for step in told}

    ring.receive(0)
    between_s = time.time()
    ring.send(LAST_CHUNK, HIDDEN)

    begun, ended, received = told
    assert received.name == "prefill.received"
    assert received.started_at_s == begun.started_at_s
    assert received.ended_at_s is not None and ended.ended_at_s is not None
    assert begun.started_at_s <= received.ended_at_s <= between_s <= ended.ended_at_s


def test_the_entrys_prefill_leaves_it_and_its_head_begins_with_what_comes_back(
    told: list[StepTaken],
) -> None:
    answer = FirstAnswer(StartSteps(told.append))
    ring = EntryRing(Previous(LAST_CHUNK.answer), answer)
    answer.prefill.begin()

    ring.send(FIRST_CHUNK, HIDDEN)
    assert has_ended(told) == [False]
    ring.send(LAST_CHUNK, HIDDEN)
    assert has_ended(told) == [False, True]
    answer.head.end()  # nothing has come back: there was no head yet
    ring.receive(0)
    for _ in range(2):
        answer.prefill.end()
        answer.head.end()

    assert [step.name for step in told] == ["prefill", "prefill", "head"]
    (head,) = told[2:]
    assert head.ended_at_s is not None and told[1].ended_at_s is not None
    assert told[1].ended_at_s <= head.started_at_s <= head.ended_at_s
