"""An engine goes on with other stages."""

import pytest

from services.scheduler.simulation.cluster.batch_engine import BatchEngine
from services.scheduler.simulation.cluster.compute import (
    ComputeSharing,
    DeviceCompute,
    Speed,
    StageCompute,
    StepCurve,
)
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.event_queue import EventQueue

# 1 ms a prompt token, 10 ms a step of any batch. With caps, half of the memory is half as fast.
SPEED = Speed(0.001, StepCurve(((1, 0.010),)))


def stage(of_model: float, memory: int) -> StageCompute:
    device = DeviceCompute(ComputeSharing.CAPS)
    return StageCompute(device, SPEED, of_model, memory, whole_model_bytes=10)


def request(index: int, prompt: int, output: int) -> SimulatedRequest:
    return SimulatedRequest(index, "group", "model", 0.0, prompt, output)


class Pipeline:
    """Two stages of half a model: the entry with all memory, the other with half of it. A step
    takes 5 + 10 ms and a hop of 1 ms: 16 ms; a prefill of 100 tokens 50 + 100 + 1 ms."""

    def __init__(self) -> None:
        self.events = EventQueue()
        self.stages = [stage(0.5, 10), stage(0.5, 5)]
        self.engine = BatchEngine(self.events, self.stages, 0.001, lambda request: None)
        self.switched_s: list[float] = []

    def switch(self, pause_s: float = 0.1) -> None:
        self.alone = stage(1.0, 10)
        self.engine.replace_stages(
            (self.alone,), pause_s, lambda: self.switched_s.append(self.events.now_s)
        )


def test_requests_go_on_where_they_were_from_the_next_step_on() -> None:
    """The prefill ends at 0.151 s. At 0.2 s the fourth step runs, which ends at 0.215 s; the pause
    ends at 0.315 s, and the other 6 of 10 steps take 10 ms each: 0.375 s."""
    pipeline, one = Pipeline(), request(1, 100, 11)
    pipeline.engine.start()
    pipeline.engine.accept(one)
    pipeline.events.run_until(0.2)
    pipeline.switch()
    pipeline.events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.151)
    assert pipeline.switched_s == [pytest.approx(0.315)]
    assert one.ended_at_s == pytest.approx(0.375)


def test_a_prefill_is_ended_before_the_switch() -> None:
    """It ends at 0.151 s as it began; then the pause, and two steps: 0.271 s."""
    pipeline, one = Pipeline(), request(1, 100, 3)
    pipeline.engine.start()
    pipeline.engine.accept(one)
    pipeline.events.run_until(0.05)
    pipeline.switch()
    pipeline.events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.151)
    assert one.ended_at_s == pytest.approx(0.271)


def test_who_comes_in_the_pause_waits_for_its_end() -> None:
    """It rests, so the pause begins at once: until 0.3 s. The prefill then takes 0.1 s."""
    pipeline, one = Pipeline(), request(1, 100, 1)
    pipeline.engine.start()
    pipeline.events.run_until(0.2)
    pipeline.switch()
    pipeline.engine.accept(one)
    assert pipeline.engine.num_waiting == 1
    pipeline.events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.4)


def test_one_that_rests_has_rested_as_long_as_before() -> None:
    pipeline = Pipeline()
    pipeline.events.run_until(1.0)
    pipeline.engine.start()
    pipeline.events.run_until(3.0)
    pipeline.switch()
    pipeline.events.run_until(5.0)
    assert pipeline.engine.idle_since_s == 1.0


def test_one_whose_last_request_ends_with_the_step_rests_since_then() -> None:
    """The only step after the first token ends at 0.167 s."""
    pipeline, one = Pipeline(), request(1, 100, 2)
    pipeline.engine.start()
    pipeline.engine.accept(one)
    pipeline.events.run_until(0.16)
    pipeline.switch()
    pipeline.events.run_until(5.0)
    assert one.ended_at_s == pytest.approx(0.167)
    assert pipeline.engine.idle_since_s == pytest.approx(0.167)


def test_one_that_is_aborted_in_the_pause_does_not_go_on() -> None:
    pipeline, one = Pipeline(), request(1, 100, 11)
    pipeline.engine.start()
    pipeline.engine.accept(one)
    pipeline.events.run_until(0.2)
    pipeline.switch()
    pipeline.events.run_until(0.25)
    assert pipeline.engine.abort() == [one]
    pipeline.events.run_until(10)
    assert pipeline.switched_s == []
    assert one.ended_at_s is None


def test_the_old_stages_leave_their_devices_to_others() -> None:
    """By weights: beside one that computes a stage has half of a device; after the switch all."""
    events, device = EventQueue(), DeviceCompute(ComputeSharing.WEIGHTS)
    own = StageCompute(device, SPEED, 0.5, 10, 10)
    other_device = DeviceCompute(ComputeSharing.WEIGHTS)
    engine = BatchEngine(
        events, [StageCompute(other_device, SPEED, 0.5, 10, 10), own], 0.0, lambda request: None
    )
    engine.start()
    engine.accept(request(1, 100, 1_000))
    neighbour = StageCompute(device, SPEED, 1.0, 10, 10)
    device.begin(neighbour, lambda: None)
    events.run_until(1.0)
    assert device.share_of(neighbour) < 1.0
    engine.replace_stages((StageCompute(other_device, SPEED, 1.0, 10, 10),), 0.1, lambda: None)
    events.run_until(2.0)
    assert device.share_of(neighbour) == 1.0
