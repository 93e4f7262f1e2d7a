"""When a worker process is told of its target, and what of its answers counts."""

import pytest

from libs.common.bus.messages import ConsolidationObserved, TargetGeneration
from libs.common.states import ConsolidationPhase
from services.worker.agent.processes.target_follower import TargetFollower
from services.worker.errors import FrameError
from services.worker.frames.consolidation import (
    AbandonConsolidation,
    Consolidate,
    ConsolidationChanged,
)
from services.worker.frames.frames import ToWorker

ABANDONED, LOADING = ConsolidationPhase.ABANDONED, ConsolidationPhase.LOADING
SWITCHED = ConsolidationPhase.SWITCHED
UNITS = ("2" * 64, "3" * 64)


def target(attempt: int = 1, generation: int = 2) -> TargetGeneration:
    return TargetGeneration(
        generation=generation, attempt=attempt, unit_digests=UNITS, kv_bytes=640, timeout_ms=9000
    )


def consolidate(attempt: int = 1, generation: int = 2) -> Consolidate:
    return Consolidate(generation, attempt, UNITS, kv_bytes=640, timeout_ms=9000)


class Process:
    """What a worker process of generation 1 is told."""

    def __init__(self) -> None:
        self.told: list[ToWorker] = []
        self.follower = TargetFollower(1, self.told.append)

    def says(self, phase: ConsolidationPhase, attempt: int = 1, why: str = "") -> None:
        self.follower.take(ConsolidationChanged(2, attempt, phase, why))


def test_a_process_is_told_of_each_attempt_once() -> None:
    process = Process()
    for _ in range(3):
        process.follower.follow(target())
    assert process.told == [consolidate()]
    assert process.follower.observed is None, "it has said nothing yet"
    assert process.follower.was_told


def test_what_it_says_of_its_target_is_told_on_while_it_has_that_target() -> None:
    process = Process()
    process.follower.follow(target())
    process.says(LOADING)
    assert process.follower.observed == ConsolidationObserved(generation=2, phase=LOADING)
    assert process.follower.generation == 1

    process.follower.follow(None)
    assert process.follower.observed is None
    process.says(ABANDONED, why="taken back")
    assert process.follower.observed is None


def test_a_target_that_is_taken_back_is_abandoned_and_another_attempt_begins_anew() -> None:
    process = Process()
    process.follower.follow(target())
    process.follower.follow(None)
    process.follower.follow(target(attempt=2))
    assert process.told == [consolidate(), AbandonConsolidation(2, 1), consolidate(attempt=2)]

    process.says(ABANDONED, attempt=1, why="taken back")
    assert process.follower.observed is None, "that was the attempt before"


def test_an_attempt_that_replaces_another_in_one_desired_state_abandons_that_first() -> None:
    process = Process()
    process.follower.follow(target())
    process.follower.follow(target(attempt=2))
    assert process.told == [consolidate(), AbandonConsolidation(2, 1), consolidate(attempt=2)]


def test_an_attempt_that_the_process_abandoned_is_not_begun_again_nor_abandoned_twice() -> None:
    process = Process()
    process.follower.follow(target())
    process.says(ABANDONED, why="x" * 300)
    process.follower.follow(target())
    assert process.follower.observed is not None
    assert process.follower.observed.why == "x" * 200
    process.follower.follow(None)
    assert process.told == [consolidate()]


def test_a_reached_generation_is_told_from_the_switch_on_and_the_target_is_done() -> None:
    process = Process()
    process.follower.follow(target())
    process.says(SWITCHED)
    assert process.follower.generation == 2
    process.follower.follow(target())
    process.follower.follow(None)
    process.follower.follow(target(attempt=2))
    assert process.told == [consolidate()]
    assert process.follower.generation == 2
    assert process.follower.observed is None


def test_a_switch_counts_though_its_target_was_taken_back_before_it_was_heard_of() -> None:
    process = Process()
    process.follower.follow(target())
    process.follower.follow(None)
    process.says(SWITCHED)
    assert (process.follower.generation, process.follower.observed) == (2, None)


def test_an_attempt_that_nobody_asked_for_breaks_the_protocol() -> None:
    process = Process()
    process.follower.follow(target())
    with pytest.raises(FrameError, match="attempt 7 at generation 2 is unknown"):
        process.says(SWITCHED, attempt=7)
    assert process.follower.generation == 1
