"""What the stages of a pipeline tell of their steps."""

import random

from tests.unit.worker.engine.pipelines import layers_of, make_pipeline
from tests.unit.worker.engine.test_generation import greedy
from tests.unit.worker.engine.tiny import Tiny, generate

PROMPT_CHUNKS = 3
NUM_TOKENS = 4


class Told:
    """What one stage told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bool | None]] = []

    def received(self, *, is_sampled: bool) -> None:
        self.events.append(("received", is_sampled))

    def leaving(self, *, is_sampled: bool) -> None:
        self.events.append(("leaving", is_sampled))

    def left(self) -> None:
        self.events.append(("left", None))

    def of(self, name: str) -> list[bool | None]:
        return [is_sampled for told, is_sampled in self.events if told == name]


def test_every_stage_tells_what_comes_and_leaves_and_what_a_token_depends_on(tiny: Tiny) -> None:
    stages = [Told(), Told(), Told()]
    pipeline = make_pipeline(
        tiny, layers_of((1, 2), 3), random.Random(1), stages, max_step_tokens=8
    )

    generate(pipeline.engine, greedy("r", tiny.prompt(8 * PROMPT_CHUNKS), NUM_TOKENS))

    chunks = [*[False] * (PROMPT_CHUNKS - 1), *[True] * NUM_TOKENS]
    for stage in stages:
        assert stage.of("received") == stage.of("leaving") == chunks
    for follower in stages[1:]:
        names = [name for name, _ in follower.events]
        assert names == ["received", "leaving", "left"] * len(chunks)


def test_the_entry_times_what_goes_through_all_stages(tiny: Tiny) -> None:
    pipeline = make_pipeline(tiny, layers_of((1, 2), 3), random.Random(1), max_step_tokens=8)

    generate(pipeline.engine, greedy("first", tiny.prompt(5), NUM_TOKENS))
    generate(pipeline.engine, greedy("r", tiny.prompt(8 * PROMPT_CHUNKS), NUM_TOKENS))

    stats = pipeline.engine.stats
    assert stats.prefill_s_per_token is not None and stats.prefill_s_per_token > 0
    assert [time.batch for time in stats.decode_times] == [1]


def test_a_whole_model_tells_its_steps_too(tiny: Tiny) -> None:
    told = Told()

    generate(tiny.engine(events=told), greedy("r", tiny.prompt(5), NUM_TOKENS))

    assert told.of("leaving") == told.of("received") == [True] * NUM_TOKENS
