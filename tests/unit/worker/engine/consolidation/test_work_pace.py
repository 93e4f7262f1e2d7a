"""Work beside a busy engine takes its share of the time and no more."""

import pytest

from services.worker.engine.consolidation.work_pace import WorkPace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def work(self, took_s: float = 0.01) -> bool:
        self.now_s += took_s
        return True


def test_after_a_piece_its_share_of_the_time_has_to_pass() -> None:
    clock = Clock()
    pace = WorkPace(0.1, clock)

    assert pace.run(clock.work, is_busy=True)
    clock.now_s += 0.089  # nine times as long as the piece took, but for a millisecond
    assert not pace.run(clock.work, is_busy=True)
    clock.now_s += 0.002
    assert pace.run(clock.work, is_busy=True)


def test_an_idle_engine_waits_for_nothing() -> None:
    clock = Clock()
    pace = WorkPace(0.1, clock)

    assert all(pace.run(clock.work, is_busy=False) for _ in range(5))
    assert clock.now_s == pytest.approx(100.05)


def test_it_says_whether_there_was_something_to_do() -> None:
    assert not WorkPace(0.1, Clock()).run(lambda: False, is_busy=True)
