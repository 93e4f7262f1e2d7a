"""When a stage's prefill begins and ends, as the micro-batches that pass by tell."""

from collections import deque

import pytest
import torch

from services.worker.engine.microbatch import MicroBatch, Piece
from services.worker.engine.ring import Arrival
from services.worker.frames import StepTaken
from services.worker.prefill import PrefillRing, PrefillStep
from services.worker.startsteps import StartSteps

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
    prefill = PrefillStep(StartSteps(told.append))
    return PrefillRing(Previous(FIRST_CHUNK, LAST_CHUNK, LAST_CHUNK), prefill)


def has_ended(told: list[StepTaken]) -> list[bool]:
    assert {step.name for step in told} <= {"prefill"}
    return [step.ended_at_s is not None for step in told]


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

    ring.send(LAST_CHUNK.answer, HIDDEN[:1])

    assert has_ended(told) == [False, True]


def test_what_comes_after_it_is_told_no_more(ring: PrefillRing, told: list[StepTaken]) -> None:
    for batch in (FIRST_CHUNK, LAST_CHUNK, LAST_CHUNK):
        assert ring.receive(0) is not None
        ring.send(batch, HIDDEN)
    assert ring.receive(0) is None
    assert has_ended(told) == [False, True]
