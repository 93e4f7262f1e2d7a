"""How often a worker tells its load, with an engine that only counts."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from services.worker.engine_port import DecodeTime, EngineStats, Output, Request
from services.worker.frames import frames as frames_module
from services.worker.frames.frames import StatsChanged, ToAgent
from services.worker.runtime.channel import Channel
from services.worker.runtime.compute.compute_monitor import ComputeMonitor
from services.worker.runtime.prefill_steps import FirstAnswer
from services.worker.runtime.progress import Progress
from services.worker.runtime.serving_loop import ServingLoop
from services.worker.runtime.start_steps import StartSteps

STEP_S = 0.01


class EndOfTest(Exception):
    """The engine has no more steps."""


class CountingEngine:
    """Busy all the time; each step takes another time than the one before."""

    is_idle = False

    def __init__(self, num_running: Iterator[int]) -> None:
        self.stats = EngineStats(kv_capacity_bytes=640)
        self.now_s = 100.0
        self._num_running = num_running
        self._num_steps = 0

    def load_units(self) -> Iterator[None]:
        yield from ()

    def optimize_step(self) -> bool:
        return False

    def wake(self) -> None:
        """It never waits."""

    def add_request(self, request: Request) -> None:
        """Nobody asks."""

    def cancel(self, request_id: str, attempt: int) -> None:
        """Nobody leaves."""

    def step(self) -> list[Output]:
        num_running = next(self._num_running, None)
        if num_running is None:
            raise EndOfTest
        self.now_s += STEP_S
        self._num_steps += 1
        mean_step_s = self._num_steps / 1e6
        self.stats = EngineStats(
            *(num_running, 0, 64, 640),
            mean_step_s=mean_step_s,
            prefill_s_per_token=0.0001234567,
            decode_times=(DecodeTime(1, 0.01), DecodeTime(4, 1e-9)),
        )
        return []


class SilentAgent:
    def __init__(self) -> None:
        self.progress, self.compute = Progress(), ComputeMonitor()
        self.told: list[StatsChanged] = []

    def notify(self, arrived: object) -> None:
        """Nothing arrives."""

    def receive(self, timeout_s: float | None) -> None:
        return None

    def send(self, frame: ToAgent) -> None:
        if isinstance(frame, StatsChanged):
            self.told.append(frame)


def told(monkeypatch: pytest.MonkeyPatch, num_running: Iterator[int]) -> list[StatsChanged]:
    engine, channel = CountingEngine(num_running), SilentAgent()
    clock = SimpleNamespace(monotonic=lambda: engine.now_s)
    monkeypatch.setattr("services.worker.runtime.serving_loop.time", clock)
    steps = StartSteps(channel.send)
    answer = FirstAnswer(steps)
    serving = ServingLoop(engine, cast("Channel", channel), steps, answer)
    with pytest.raises(EndOfTest):
        serving.run()
    return channel.told


def test_times_of_steps_are_told_each_second_while_the_load_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = told(monkeypatch, iter([3] * 500))  # for 5 s

    assert len(frames) in (5, 6)
    assert set(frames) == {StatsChanged(3, 0, 64, 640)}
    times_us = [frame.step_us for frame in frames]
    assert times_us == sorted(set(times_us)) and times_us[0] > 0
    assert {frame.prefill_us_per_token for frame in frames} == {123.5}
    times = (frames_module.DecodeTime(1, 10_000), frames_module.DecodeTime(4, 1))
    assert {frame.decode_times for frame in frames} == {times}


def test_a_load_that_always_changes_is_told_five_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = told(monkeypatch, iter(range(1, 501)))  # for 5 s

    assert 24 <= len(frames) <= 26
