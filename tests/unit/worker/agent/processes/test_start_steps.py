from libs.common.bus.messages import Step
from libs.common.testing.bus import FakeClock
from libs.common.told_steps import TOLD_S
from services.worker.agent.processes.start_steps import StartStepLog


def names(book: StartStepLog) -> list[str]:
    return [step.name for step in book.told()]


def book_of_a_start(clock: FakeClock) -> StartStepLog:
    book = StartStepLog("worker-a", None, clock)
    book.begin("spawn")
    book.take(Step(name="spawn", started_at=clock.now(), ended_at=clock.now()))
    return book


def test_every_step_of_a_start_is_told_until_a_minute_after_it() -> None:
    clock = FakeClock()
    book = book_of_a_start(clock)
    clock.advance(10 * TOLD_S)
    book.note_ready()

    clock.advance(TOLD_S - 0.1)
    assert names(book) == ["spawn", "ready"]
    clock.advance(0.1)
    assert names(book) == []


def test_a_step_after_the_start_is_told_while_it_runs_and_for_a_minute() -> None:
    clock = FakeClock()
    book = book_of_a_start(clock)
    book.note_ready()
    clock.advance(TOLD_S)
    book.begin("prefill")
    clock.advance(10 * TOLD_S)
    assert names(book) == ["prefill"]

    book.take(Step(name="prefill", started_at=clock.now(), ended_at=clock.now()))
    assert book.note_first_token()
    clock.advance(TOLD_S - 0.1)
    assert names(book) == ["prefill", "first_token"]
    clock.advance(0.1)
    assert names(book) == []
    assert not book.note_first_token()


def test_what_was_told_for_long_enough_does_not_come_back_with_the_end() -> None:
    clock = FakeClock()
    book = book_of_a_start(clock)
    book.note_ready()
    clock.advance(TOLD_S)
    book.close("killed")
    assert names(book) == []
