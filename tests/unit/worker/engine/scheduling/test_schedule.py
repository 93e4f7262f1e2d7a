from collections import deque
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.sampling import SamplingParameters
from services.worker.engine.scheduling.schedule import Schedule, StepPlan
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import Request

NUM_SLOTS = 400


def sequence(arrival: int, num_prompt: int, max_new: int) -> Sequence:
    request = Request(
        f"r{arrival}", 1, (5,) * num_prompt, SamplingParameters(max_tokens=max_new, seed=0)
    )
    return Sequence(request, min(num_prompt + max_new, NUM_SLOTS + 1), arrival)


def run_step(schedule: Schedule) -> StepPlan:
    """One step in which every sampled sequence gets a token, and leaves at its limit."""
    plan = schedule.plan()
    schedule.complete(plan.chunks)
    for chunk in plan.chunks:
        if chunk.is_sampled:
            chunk.sequence.token_ids.append(5)
            if len(chunk.sequence.token_ids) >= chunk.sequence.max_num_tokens:
                schedule.remove(chunk.sequence)
    return plan


def make_schedule(num_slots: int = NUM_SLOTS, max_running: int = 4) -> Schedule:
    return Schedule(num_kv_slots=num_slots, max_running=max_running, max_step_tokens=64)


def test_requests_beyond_the_slots_wait_and_start_in_order() -> None:
    schedule = make_schedule(max_running=2)
    sequences = [sequence(n, 8, 3) for n in range(4)]
    for each in sequences:
        schedule.add(each)

    started = [chunk.sequence.arrival for chunk in run_step(schedule).chunks]

    assert started == [0, 1]
    assert (schedule.num_running, schedule.num_waiting) == (2, 2)


def test_a_large_limit_reserves_nothing() -> None:
    schedule = make_schedule(max_running=3)
    for n in range(3):
        schedule.add(sequence(n, 2, NUM_SLOTS))

    run_step(schedule)

    assert schedule.num_running == 3


def test_a_region_that_must_grow_moves_when_its_neighbour_is_taken() -> None:
    schedule = make_schedule()
    first, second = sequence(0, 2, 390), sequence(1, 2, 20)
    schedule.add(first)
    schedule.add(second)

    moves = [move for _ in range(140) for move in run_step(schedule).moves]

    assert [move.num_tokens for move in moves] in ([], [130])
    assert first.region is not None and first.region.capacity > 130


def test_the_youngest_gives_way_and_starts_again() -> None:
    schedule = make_schedule()
    old, young = sequence(0, 2, 390), sequence(1, 100, 290)
    schedule.add(old)
    schedule.add(young)

    num_preemptions = 0
    for _ in range(2000):
        before = young.num_computed
        run_step(schedule)
        num_preemptions += young.num_computed < before
        assert old.region is not None or len(old.token_ids) == 392

    assert num_preemptions >= 1
    assert (schedule.num_running, schedule.num_waiting) == (0, 0)
    assert schedule.num_kv_slots_used == 0


def test_scarce_room_costs_less_than_computing_everything_twice() -> None:
    schedule = Schedule(num_kv_slots=20_000, max_running=64, max_step_tokens=512)
    request = Request("r", 1, (5,) * 500, SamplingParameters(max_tokens=1000, seed=0))
    sequences = [Sequence(request, 1500, number) for number in range(64)]
    for each in sequences:
        schedule.add(each)

    num_computed = 0
    while schedule.num_running or schedule.num_waiting:
        num_computed += sum(chunk.length for chunk in run_step(schedule).chunks)

    assert num_computed < 1.85 * sum(each.max_num_tokens - 1 for each in sequences)


def test_in_flight_sequences_are_not_planned_again() -> None:
    schedule = make_schedule()
    schedule.add(sequence(0, 8, 3))
    plan = schedule.plan()

    assert schedule.plan().chunks == ()

    schedule.complete(plan.chunks)
    assert plan.chunks[0].sequence.num_computed == 8


def test_a_long_prompt_keeps_every_stage_busy() -> None:
    schedule = Schedule(num_kv_slots=500, max_running=4, max_step_tokens=64, num_batches=4)
    schedule.add(sequence(0, 300, 3))

    plans = [schedule.plan() for _ in range(4)]

    chunks = [chunk for plan in plans for chunk in plan.chunks]
    assert [(chunk.start, chunk.length) for chunk in chunks] == [
        (64 * index, 64) for index in range(4)
    ]


Arrivals = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 300), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(arrivals=Arrivals, num_slots=st.integers(300, 700), max_running=st.integers(1, 5))
def test_under_any_pressure_every_request_ends_and_nothing_leaks(
    arrivals: list[tuple[int, int, bool]], num_slots: int, max_running: int
) -> None:
    schedule = make_schedule(num_slots, max_running)
    live: list[Sequence] = []
    for number, (num_prompt, max_new, cancels_one) in enumerate(arrivals):
        limit = min(max_new, num_slots + 1 - num_prompt)
        live.append(sequence(number, num_prompt, limit))
        schedule.add(live[-1])
        run_step(schedule)
        live = [each for each in live if len(each.token_ids) < each.max_num_tokens]
        if cancels_one and live:
            schedule.remove(live.pop(number % len(live)))

    for _ in range(100_000):
        if schedule.num_running + schedule.num_waiting == 0:
            break
        run_step(schedule)
        regions = [each.region for each in live if each.region is not None]
        ordered = sorted(regions)
        assert all(a.end <= b.start for a, b in pairwise(ordered))

    assert schedule.num_running + schedule.num_waiting == 0
    assert schedule.num_kv_slots_used == 0


def finish(schedule: Schedule, plan: StepPlan) -> None:
    """A micro-batch came back: sampled sequences get a token, and leave at their limit."""
    sampled = [chunk.sequence for chunk in plan.chunks if chunk.is_sampled]
    schedule.complete(plan.chunks)
    for each in sampled:
        each.token_ids.append(5)
        if len(each.token_ids) >= each.max_num_tokens:
            schedule.remove(each)


@settings(max_examples=60, deadline=None)
@given(
    limits=st.lists(st.tuples(st.integers(1, 250), st.integers(1, 250)), min_size=1, max_size=10),
    num_slots=st.integers(250, 500),
    num_batches=st.integers(2, 4),
    seed=st.integers(0, 2**32),  # not st.randoms: thousands of draws are more than it may hold
)
def test_with_micro_batches_in_flight_every_request_ends_and_the_oldest_keeps_its_room(
    limits: list[tuple[int, int]], num_slots: int, num_batches: int, seed: int
) -> None:
    chance = Random(seed)
    schedule = Schedule(
        num_kv_slots=num_slots, max_running=5, max_step_tokens=64, num_batches=num_batches
    )
    live = [
        sequence(number, num_prompt, min(max_new, num_slots + 1 - num_prompt))
        for number, (num_prompt, max_new) in enumerate(limits)
    ]
    for each in live:
        schedule.add(each)
    in_flight: deque[StepPlan] = deque()

    for _ in range(100_000):
        oldest, had_room = live[0], live[0].region is not None
        plan = schedule.plan() if len(in_flight) < num_batches and chance.random() < 0.7 else None
        assert oldest.region is not None or not had_room
        if plan is not None and plan.chunks:
            in_flight.append(plan)
        elif in_flight:
            finish(schedule, in_flight.popleft())
        live = [each for each in live if len(each.token_ids) < each.max_num_tokens]
        if not live:
            break

    assert not live
    for plan in in_flight:
        finish(schedule, plan)
    assert (schedule.num_running, schedule.num_kv_slots_used) == (0, 0)
