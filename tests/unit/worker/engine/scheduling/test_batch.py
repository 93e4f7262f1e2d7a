from libs.common.sampling import SamplingParameters
from services.worker.engine.scheduling.batch import Chunk, plan_chunks
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import Request


def sequence(arrival: int, num_tokens: int, num_computed: int = 0) -> Sequence:
    sampling = SamplingParameters(max_tokens=10, seed=0)
    request = Request(f"r{arrival}", 1, tuple(range(num_tokens)), sampling)
    return Sequence(request, num_tokens + 10, arrival, num_computed=num_computed)


def launched(sequence: Sequence, num_tokens: int) -> Sequence:
    sequence.num_launched = num_tokens
    return sequence


def lengths(chunks: tuple[Chunk, ...]) -> dict[int, int]:
    return {chunk.sequence.arrival: chunk.length for chunk in chunks}


def test_every_decode_runs_before_any_prompt() -> None:
    running = [sequence(0, 100), sequence(1, 9, 8), sequence(2, 5, 4)]

    assert lengths(plan_chunks(running, 10)) == {1: 1, 2: 1, 0: 8}


def test_a_chunk_starts_where_the_last_one_ended() -> None:
    (chunk,) = plan_chunks([sequence(0, 100, 30)], 50)

    assert (chunk.start, chunk.length, chunk.is_sampled) == (30, 50, False)


def test_the_chunk_that_reaches_the_last_token_is_sampled() -> None:
    (chunk,) = plan_chunks([sequence(0, 100, 60)], 50)

    assert (chunk.start, chunk.length, chunk.is_sampled) == (60, 40, True)


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    running = [sequence(0, 1000), sequence(1, 20)]

    assert lengths(plan_chunks(running, 64)) == {0: 32 + 12, 1: 20}


def test_the_oldest_prompt_always_gets_half_of_what_decodes_leave() -> None:
    running = [sequence(0, 1000), *(sequence(n, 30) for n in range(1, 9))]

    assert lengths(plan_chunks(running, 64))[0] == 32


def test_equal_prompts_are_served_first_come_first_served() -> None:
    running = [sequence(n, 40) for n in (2, 0, 1)]

    assert lengths(plan_chunks(running, 80)) == {0: 40, 1: 40}


def test_what_is_in_flight_is_left_alone() -> None:
    busy = launched(sequence(0, 10), 10)

    assert plan_chunks([busy], 64) == ()


def test_the_next_chunk_of_a_prompt_follows_before_the_last_is_back() -> None:
    (chunk,) = plan_chunks([launched(sequence(0, 100), 64)], 64, num_batches=2)

    assert (chunk.start, chunk.length, chunk.is_sampled) == (64, 36, True)


def test_prompts_that_have_nothing_on_the_way_go_before_a_long_one() -> None:
    running = [launched(sequence(0, 1000), 64), *(sequence(n, 30) for n in (1, 2, 3))]

    assert lengths(plan_chunks(running, 64, num_batches=4)) == {1: 30}


def test_sequences_are_spread_over_as_many_micro_batches_as_there_are_stages() -> None:
    running = [sequence(n, 9, 8) for n in range(5)] + [sequence(n, 30) for n in (5, 6, 7)]

    assert lengths(plan_chunks(running, 64, num_batches=2)) == {0: 1, 1: 1, 2: 1, 5: 30, 6: 30}


def test_what_is_in_flight_counts_when_the_rest_is_spread() -> None:
    running = [sequence(n, 9, 8) for n in range(4)]
    for busy in running[:2]:
        launched(busy, 9)

    assert lengths(plan_chunks(running, 64, num_batches=2)) == {2: 1, 3: 1}
