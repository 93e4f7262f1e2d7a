"""When a worker process is told of its target, and what of its answers counts."""

from dataclasses import replace

import pytest

from libs.common.bus.messages import (
    ConsolidationObserved,
    PauseObserved,
    SwitchObserved,
    TargetGeneration,
)
from libs.common.states import ConsolidationPhase
from libs.common.testing.bus import FakeClock
from libs.common.told_steps import TOLD_S
from services.worker.agent.processes.target_follower import TargetFollower
from services.worker.errors import FrameError
from services.worker.frames.consolidation import (
    AbandonConsolidation,
    Consolidate,
    ConsolidationChanged,
    RequestPause,
    SwitchMeasured,
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
        self.clock = FakeClock()
        self.follower = TargetFollower(1, self.told.append, self.clock)

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


MEASURED = SwitchMeasured(
    *(2, 1),
    is_recomputed=False,
    num_sequences=3,
    precopied_bytes=4000,
    moved_bytes=500,
    drain_s=0.25,
    move_s=0.5,
    pauses=(RequestPause("r1", 1.5), RequestPause("r0", 1.0, usual_gap_s=0.125)),
    predicted_move_s=2.0,
)


def test_how_the_switch_went_is_told_on_for_some_time() -> None:
    process = Process()
    process.follower.follow(target())
    process.follower.take_switch(MEASURED)
    process.follower.follow(None)

    assert process.follower.switch == SwitchObserved(
        generation=2,
        transfer="move",
        predicted_move_ms=2000,
        num_sequences=3,
        precopied_bytes=4000,
        moved_bytes=500,
        drain_ms=250,
        move_ms=500,
        pauses=(
            PauseObserved(request_id="r1", pause_ms=1500),
            PauseObserved(request_id="r0", pause_ms=1000, usual_gap_ms=125),
        ),
    )
    process.clock.advance(TOLD_S + 1)
    assert process.follower.switch is None


def test_a_switch_that_cannot_have_been_is_refused() -> None:
    process = Process()
    with pytest.raises(FrameError, match="attempt 1 at generation 2 is unknown"):
        process.follower.take_switch(MEASURED)
    process.follower.follow(target())
    for wrong in (
        replace(MEASURED, move_s=1e9),
        replace(MEASURED, pauses=(RequestPause("No Id", 1.0),)),
    ):
        with pytest.raises(FrameError, match="cannot have been"):
            process.follower.take_switch(wrong)
