import pytest

from services.scheduler.simulation.cluster.batch_engine import BatchEngine
from services.scheduler.simulation.cluster.compute import (
    ComputeSharing,
    DeviceCompute,
    Speed,
    StageCompute,
    StepCurve,
)
from services.scheduler.simulation.cluster.early_prefill import EarlyPrefill
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.event_queue import EventQueue

# 1 ms a prompt token; 10 ms a step of one request, 1 ms more for each further one.
SPEED = Speed(0.001, StepCurve(((1, 0.010), (11, 0.020))))


def request(index: int, prompt: int, output: int) -> SimulatedRequest:
    return SimulatedRequest(index, "group", "model", 0.0, prompt, output)


def stage(device: DeviceCompute, of_model: float = 1.0, memory: int = 10) -> StageCompute:
    return StageCompute(device, SPEED, of_model, memory, whole_model_bytes=10)


def engine(events: EventQueue, *stages: StageCompute, hop_s: float = 0.0) -> BatchEngine:
    made = BatchEngine(events, stages or [stage(DeviceCompute())], hop_s, lambda request: None)
    made.start()
    return made


def test_a_request_alone_takes_its_prefill_and_its_steps() -> None:
    """100 tokens: 0.1 s; 10 more tokens after the first: 0.1 s."""
    events, one = EventQueue(), request(1, 100, 11)
    engine(events).accept(one)
    events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.1)
    assert one.ended_at_s == pytest.approx(0.2)
    assert one.tpot_s == pytest.approx(0.01)


def test_hops_of_a_prompt_may_take_longer_than_those_of_a_step() -> None:
    """Two stages: 0.1 s and one hop of 20 ms; then 10 steps of 10 ms and one hop of 1 ms each."""
    events, one = EventQueue(), request(1, 100, 11)
    stages = [stage(DeviceCompute(), 0.5), stage(DeviceCompute(), 0.5)]
    running = BatchEngine(events, stages, 0.001, lambda request: None, prompt_hop_s=0.02)
    running.start()
    running.accept(one)
    events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.12)
    assert one.ended_at_s == pytest.approx(0.12 + 10 * 0.011)


def test_what_was_done_of_the_first_prompt_while_weights_arrived_is_not_done_again() -> None:
    """Both prompts take 0.1 s. They have waited for 0.05 s since the stages could compute: half of
    the first one is done, or a quarter where no more can be. Of the second one nothing is."""
    for most, first_at_s in ((0.9, 0.10), (0.25, 0.125)):
        events, one, two = EventQueue(), request(1, 100, 1), request(2, 100, 1)
        engine = BatchEngine(events, [stage(DeviceCompute())], 0.0, lambda request: None)
        engine.accept(one)
        engine.accept(two)
        events.run_until(0.05)
        engine.start(EarlyPrefill(since_s=0.0, until_s=0.05, most=most))
        events.run_until(10)
        assert one.first_token_at_s == pytest.approx(first_at_s)
        assert two.first_token_at_s == pytest.approx(first_at_s + 0.1)


def test_of_a_prompt_that_has_just_come_nothing_was_done_early() -> None:
    """The stages could compute since 0 s; it came at 0.04 s, with the last byte."""
    events = EventQueue()
    engine = BatchEngine(events, [stage(DeviceCompute())], 0.0, lambda request: None)
    late = SimulatedRequest(1, "group", "model", 0.04, 100, 1)
    events.run_until(0.04)
    engine.accept(late)
    engine.start(EarlyPrefill(since_s=0.0, until_s=0.04, most=0.9))
    events.run_until(10)
    assert late.first_token_at_s == pytest.approx(0.14)


def test_an_answer_of_one_token_ends_with_its_prefill() -> None:
    events, one = EventQueue(), request(1, 100, 1)
    running = engine(events)
    running.accept(one)
    events.run_until(10)
    assert one.ended_at_s == one.first_token_at_s == pytest.approx(0.1)
    assert running.num_requests == 0
    assert running.idle_since_s == pytest.approx(0.1)


def test_a_prompt_waits_for_the_step_that_runs_and_stops_the_decoding() -> None:
    """The first decodes from 0.1 s on. The second comes at 0.125 s, in the third step: it begins at
    0.13 s and has its token at 0.18 s. The first has 7 steps left, of 11 ms beside the second:
    0.257 s. The second has then had 7 of its 9 steps; the other two take 10 ms each: 0.277 s."""
    events, one, two = EventQueue(), request(1, 100, 11), request(2, 50, 10)
    running = engine(events)
    running.accept(one)
    events.run_until(0.125)
    running.accept(two)
    assert (running.num_running, running.num_waiting) == (1, 1)
    events.run_until(10)
    assert two.first_token_at_s == pytest.approx(0.18)
    assert one.ended_at_s == pytest.approx(0.257)
    assert two.ended_at_s == pytest.approx(0.277)


def test_what_is_accepted_before_the_start_waits_for_it_first_come_first() -> None:
    events = EventQueue()
    waiting = BatchEngine(events, [stage(DeviceCompute())], 0.0, lambda request: None)
    one, two = request(1, 100, 1), request(2, 100, 1)
    waiting.accept(one)
    waiting.accept(two)
    events.run_until(5.0)
    waiting.start()
    events.run_until(10)
    assert one.first_token_at_s == pytest.approx(5.1)
    assert two.first_token_at_s == pytest.approx(5.2)


def test_a_pipeline_adds_hops_and_spreads_a_batch_over_its_stages() -> None:
    """Two halves, a hop of 2 ms. Alone: a prefill of 0.1 + 0.002 s, steps of 12 ms. With two
    requests each is a micro-batch: the round trip of 12 ms is more than two turns of 5 ms."""
    events, one, two = EventQueue(), request(1, 100, 6), request(2, 100, 6)
    halves = [stage(DeviceCompute(), 0.5), stage(DeviceCompute(), 0.5)]
    running = engine(events, *halves, hop_s=0.002)
    running.accept(one)
    running.accept(two)
    events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.102)
    assert two.first_token_at_s == pytest.approx(0.204)
    assert one.ended_at_s == two.ended_at_s == pytest.approx(0.204 + 5 * 0.012)


def test_two_workers_that_compute_at_the_same_time_share_by_memory() -> None:
    """30 and 10 of memory: while both prefill, they have 3/4 and 1/4. The large one's 0.1 s of work
    take 0.1333 s; the small one has done 0.0333 s of its own by then and is alone for the rest."""
    events, device = EventQueue(), DeviceCompute()
    one, two = request(1, 100, 1), request(2, 100, 1)
    large, small = (
        engine(events, stage(device, memory=30)),
        engine(events, stage(device, memory=10)),
    )
    large.accept(one)
    small.accept(two)
    events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.1 / 0.75)
    assert two.first_token_at_s == pytest.approx(0.1 / 0.75 + 0.1 - 0.1 / 3)


def test_a_stage_takes_from_others_only_for_the_part_of_the_time_in_which_it_computes() -> None:
    """Halves of a pipeline compute half of the time: of 10 + 0.5 x 10 the neighbour has 2/3, so its
    0.3 s take 0.45 s. The pipeline's first half has half of its device, the other all of its own:
    1 s of prefill is 0.5 / 0.5 + 0.5 = 1.5 s while it is disturbed."""
    events, shared, own = EventQueue(), DeviceCompute(), DeviceCompute()
    one, two = request(1, 1000, 1), request(2, 300, 1)
    pipeline = engine(events, stage(shared, 0.5), stage(own, 0.5))
    neighbour = engine(events, stage(shared))
    pipeline.accept(one)
    neighbour.accept(two)
    events.run_until(10)
    assert two.first_token_at_s == pytest.approx(0.45)
    assert one.first_token_at_s == pytest.approx(0.45 + (1 - 0.45 / 1.5))


def test_caps_hold_also_for_a_worker_that_is_alone() -> None:
    """Half the memory of a whole model: half of the compute."""
    events, one = EventQueue(), request(1, 100, 1)
    engine(events, stage(DeviceCompute(ComputeSharing.CAPS), memory=5)).accept(one)
    events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.2)


def test_the_published_slowdown_comes_out_of_caps() -> None:
    """phi(4, 1) = (4 - 1) + 1/4 = 3.25: one stage with the memory of all, three with a quarter."""
    events, one = EventQueue(), request(1, 100, 1)
    memories = (12, 3, 3, 3)
    stages = [
        StageCompute(DeviceCompute(ComputeSharing.CAPS), SPEED, 0.25, memory, 12)
        for memory in memories
    ]
    engine(events, *stages).accept(one)
    events.run_until(10)
    assert one.first_token_at_s == pytest.approx(0.325)


def test_an_aborted_engine_gives_its_requests_back_and_computes_no_more() -> None:
    events, requests = EventQueue(), [request(i, 100, 50) for i in range(3)]
    running = engine(events)
    for one in requests:
        running.accept(one)
    events.run_until(0.15)
    assert sorted(lost.index for lost in running.abort()) == [0, 1, 2]
    events.run_until(10)
    assert all(one.ended_at_s is None for one in requests)
    assert running.num_requests == 0


def test_a_step_lies_on_a_straight_line_between_the_points() -> None:
    curve = StepCurve(((1, 0.010), (11, 0.020)))
    sizes = (1, 6, 11, 50)
    assert [curve.step_s(size) for size in sizes] == pytest.approx([0.010, 0.015, 0.020, 0.020])
