"""How long requests wait at a switch: what counts, for whom, and that it is told once."""

import random
from dataclasses import replace

import pytest

from services.worker.engine.consolidation.pauses import PauseMeter
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import KvTransfer, Pause
from tests.unit.worker.engine.consolidation.consolidating import (
    NEVER_SLOW,
    Told,
    run_all,
)
from tests.unit.worker.engine.consolidation.lanes import make_subjects
from tests.unit.worker.engine.pipelines import layers_of
from tests.unit.worker.engine.test_generation import greedy
from tests.unit.worker.engine.tiny import Tiny


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def sequences(count: int) -> list[Sequence]:
    return [Sequence(greedy(f"r{i}", (1, 2), 8), 10, i) for i in range(count)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def meter(told: Told, clock: Clock) -> PauseMeter:
    return PauseMeter(told, clock)


def test_a_pause_is_from_the_last_token_before_to_the_first_after(
    meter: PauseMeter, told: Told, clock: Clock
) -> None:
    one, other = sequences(2)
    for now_s, with_token in ((0.0, [one]), (0.25, [one]), (1.0, [one]), (1.25, [one, other])):
        clock.now_s = now_s
        meter.note(with_token)
    meter.switch([one, other])

    clock.now_s = 1.75
    meter.note([one])
    assert told == Told(["stepped"]), "the other one still waits"
    clock.now_s = 2.25
    meter.note([one, other])

    assert told.names == ["stepped"] and meter.has_ended
    assert told.pauses == (
        Pause("r0", 0.5, usual_gap_s=0.25),
        Pause("r1", 1.0, usual_gap_s=None),
    )


def test_whoever_had_no_token_yet_or_did_not_run_has_no_pause(
    meter: PauseMeter, told: Told
) -> None:
    running, waiting, new = sequences(3)
    meter.note([running, waiting])
    meter.switch([running, new])

    meter.note([new, waiting, running])

    assert paused(told) == ["r0"]


def test_nobody_waits_for_a_request_that_has_ended(meter: PauseMeter, told: Told) -> None:
    one, other = sequences(2)
    meter.note([one, other])
    meter.switch([one, other])
    meter.note([one])

    meter.keep_only([one])

    assert paused(told) == ["r0"] and meter.has_ended


def test_the_first_step_is_told_when_nobody_is_left(meter: PauseMeter, told: Told) -> None:
    (one,) = sequences(1)
    meter.note([one])
    meter.switch([one])

    meter.keep_only([])

    assert told == Told(["stepped"], pauses=()) and meter.has_ended


def test_the_first_step_is_told_once_a_request_that_waits_has_a_token(
    meter: PauseMeter, told: Told
) -> None:
    (new,) = sequences(1)
    meter.switch([new])
    meter.keep_only([new])
    assert told == Told(), "it has no token yet"

    meter.note([new])

    assert told == Told(["stepped"], pauses=()) and meter.has_ended


@pytest.mark.parametrize("transfer", KvTransfer)
def test_an_engine_tells_the_pause_of_each_request_that_ran(
    tiny: Tiny, transfer: KvTransfer
) -> None:
    subjects = make_subjects(tiny, layers_of((1,), 3), random.Random(3))
    requests = [greedy(f"r{i}", (5, 6, i), 40) for i in range(3)]
    begun: list[bool] = []

    def between(results: object) -> None:
        if subjects.engine.stats.num_tokens_generated >= 9 and not begun:
            begun.append(True)
            subjects.begin(replace(NEVER_SLOW, transfer=transfer))

    run_all(subjects.engine, requests, between=between)

    assert subjects.told.result is not None and subjects.told.result.num_sequences == 3
    assert sorted(paused(subjects.told)) == ["r0", "r1", "r2"]
    assert all(pause.pause_s >= 0 for pause in subjects.told.pauses or ())


def paused(told: Told) -> list[str]:
    assert told.pauses is not None
    return [pause.request_id for pause in told.pauses]
