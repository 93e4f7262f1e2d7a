"""Which prompts and decode steps are timed, and what comes of their times; by hand."""

import pytest

from services.worker.engine.scheduling.batch import Chunk
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine.scheduling.step_meter import (
    ENOUGH_STEPS,
    FIRST_STEPS,
    LEAST_PROMPT_TOKENS,
    StepMeter,
)
from services.worker.engine_port import DecodeTime
from tests.unit.worker.engine.scheduling.test_batch import sequence

Chunks = tuple[Chunk, ...]


def decoding(num_sequences: int) -> Chunks:
    return tuple(Chunk(sequence(n, 10, 9), 9, 1) for n in range(num_sequences))


def prompt(of: Sequence, start: int, length: int) -> Chunks:
    return (Chunk(of, start, length),)


def run(meter: StepMeter, chunks: Chunks, took_s: float, *, is_alone: bool = True) -> None:
    """Launched at 100, back so much later."""
    is_sampled = chunks[0].is_sampled
    meter.launched(chunks, 100.0, is_alone=is_alone)
    meter.returned(chunks, 100.0 + took_s, is_sampled=is_sampled)


def test_nothing_is_known_before_anything_ran() -> None:
    meter = StepMeter()

    assert (meter.prefill_s_per_token, meter.decode_times(is_idle=True), meter.mean_step_s) == (
        None,
        (),
        0.0,
    )


def test_decode_steps_are_kept_apart_by_their_batch() -> None:
    meter = StepMeter()
    for num_sequences, took_s in ((1, 1.0), (1, 3.0), (3, 4.0), (4, 6.0), (40, 9.0)):
        run(meter, decoding(num_sequences), took_s)

    assert meter.decode_times(is_idle=True) == (
        DecodeTime(1, 2.0),
        DecodeTime(4, 5.0),
        DecodeTime(16, 9.0),
    )


def test_after_many_steps_the_latest_weighs_a_sixteenth() -> None:
    meter = StepMeter()
    for _ in range(100):
        run(meter, decoding(1), 1.0)
    run(meter, decoding(1), 17.0)

    assert [time.mean_s for time in meter.decode_times(is_idle=True)] == pytest.approx([2.0])


def test_the_first_steps_of_an_engine_count_only_while_there_are_no_others() -> None:
    meter = StepMeter()
    for _ in range(FIRST_STEPS):
        run(meter, decoding(1), 9.0)
    assert meter.decode_times(is_idle=False) == ()
    assert meter.decode_times(is_idle=True) == (DecodeTime(1, 9.0),)

    for _ in range(ENOUGH_STEPS - 1):
        run(meter, decoding(1), 1.0)
    assert meter.decode_times(is_idle=False) == (), "more are to come"
    assert meter.decode_times(is_idle=True) == (DecodeTime(1, 1.0),)

    run(meter, decoding(1), 1.0)
    run(meter, decoding(3), 2.0)
    assert meter.decode_times(is_idle=False) == (DecodeTime(1, 1.0),)
    assert meter.decode_times(is_idle=True) == (DecodeTime(1, 1.0), DecodeTime(4, 2.0))


def test_longer_prompts_weigh_more_and_later_ones_too() -> None:
    meter = StepMeter()
    run(meter, prompt(sequence(0, 100), 0, 100), 1.0)
    assert meter.prefill_s_per_token == 0.01

    run(meter, prompt(sequence(1, 320), 0, 320), 8.0)

    # 0.8 of one second and 100 tokens, with 8 s and 320: 8.8 s for 400.
    assert meter.prefill_s_per_token == pytest.approx(0.022)


def test_a_short_prompt_counts_as_one_of_the_least_length() -> None:
    meter = StepMeter()

    run(meter, prompt(sequence(0, 4), 0, 4), 0.32)

    assert meter.prefill_s_per_token == pytest.approx(0.32 / LEAST_PROMPT_TOKENS)


def test_a_prompt_of_several_chunks_counts_from_the_first_to_its_token() -> None:
    meter, one = StepMeter(), sequence(0, 90)
    first, second, third = (prompt(one, start, 30) for start in (0, 30, 60))
    meter.launched(first, 100.0, is_alone=True)
    meter.launched(second, 101.0, is_alone=False)  # the first is still on its way
    meter.returned(first, 102.0, is_sampled=False)
    meter.launched(third, 102.0, is_alone=False)
    meter.returned(second, 103.0, is_sampled=False)
    assert meter.prefill_s_per_token is None

    meter.returned(third, 109.0, is_sampled=True)

    assert meter.prefill_s_per_token == pytest.approx(0.1)  # 9 s for 90 tokens


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ((*decoding(1), *prompt(sequence(9, 50), 0, 50)), "both in one step"),
        ((*prompt(sequence(8, 50), 0, 50), *prompt(sequence(9, 50), 0, 50)), "two prompts"),
        (prompt(sequence(9, 50), 20, 30), "its beginning shared a step with something else"),
    ],
)
def test_what_shares_a_step_is_left_out(chunks: Chunks, why: str) -> None:
    meter = StepMeter()

    run(meter, chunks, 1.0)

    assert (meter.prefill_s_per_token, meter.decode_times(is_idle=True)) == (None, ()), why


def test_what_is_not_alone_in_flight_is_left_out() -> None:
    meter = StepMeter()
    run(meter, decoding(1), 1.0, is_alone=False)
    run(meter, prompt(sequence(0, 50), 0, 50), 1.0, is_alone=False)

    own, other = decoding(1), decoding(2)
    meter.launched(own, 100.0, is_alone=True)
    meter.launched(other, 100.5, is_alone=False)
    meter.returned(own, 101.0, is_sampled=True)
    meter.returned(other, 102.0, is_sampled=True)

    assert (meter.prefill_s_per_token, meter.decode_times(is_idle=True)) == (None, ())


def test_a_prompt_that_something_else_comes_between_is_left_out() -> None:
    meter, one = StepMeter(), sequence(0, 60)
    first, second = prompt(one, 0, 30), prompt(one, 30, 30)
    meter.launched(first, 100.0, is_alone=True)
    meter.returned(first, 101.0, is_sampled=False)
    run(meter, (*decoding(1), *prompt(sequence(5, 9), 0, 9)), 1.0)
    meter.launched(second, 102.0, is_alone=True)
    meter.returned(second, 103.0, is_sampled=True)

    assert meter.prefill_s_per_token is None


def test_a_prompt_that_begins_anew_counts_from_there() -> None:
    """Its cache was given to an older one, and it computes all again."""
    meter, one = StepMeter(), sequence(0, 60)
    first = prompt(one, 0, 30)
    meter.launched(first, 100.0, is_alone=True)
    meter.returned(first, 101.0, is_sampled=False)

    meter.launched(prompt(one, 0, 60), 200.0, is_alone=True)
    meter.returned(prompt(one, 0, 60), 206.0, is_sampled=True)

    assert meter.prefill_s_per_token == pytest.approx(0.1)
