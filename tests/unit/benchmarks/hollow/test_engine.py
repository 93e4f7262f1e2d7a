"""What a hollow engine tells of the requests that it does not compute."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from benchmarks.controlplane.hollow.settings import Duration, TokenDurations
from benchmarks.controlplane.hollow.workers.engine import HollowEngine
from libs.common.sampling import SamplingParameters
from libs.common.states import FinishReason
from libs.common.token_ids import TokenIds
from services.worker.frames.frames import (
    GenerateTokens,
    StartWorker,
    StatsChanged,
    ToAgent,
    TokensProduced,
)
from services.worker.runtime.prefill_steps import FirstAnswer
from services.worker.runtime.start_steps import StartSteps
from tests.unit.fetcher.worlds import eventually

NO_TIME = Duration(mean_s=0)
START = StartWorker(
    worker_id="worker-a",
    manifest_digest="a" * 64,
    unit_digests=(),
    stage_index=0,
    num_stages=1,
    first_layer=0,
    last_layer=1,
    device="cpu",
    device_bytes=1000,
    kv_bytes=640,
    max_slots=2,
    max_context_tokens=64,
    cores=1,
    start_timeout_ms=1000,
    fetcher_socket="",
    kv_tokens=64,
)


@dataclass
class Told:
    engine: HollowEngine
    frames: list[ToAgent] = field(default_factory=list)

    def tokens(self, request_id: str) -> list[TokensProduced]:
        produced = (frame for frame in self.frames if isinstance(frame, TokensProduced))
        return [frame for frame in produced if frame.request_id == request_id]

    def ends(self, request_id: str) -> list[FinishReason]:
        return [frame.finish for frame in self.tokens(request_id) if frame.finish]

    @property
    def most_running(self) -> int:
        stats = (frame for frame in self.frames if isinstance(frame, StatsChanged))
        return max((frame.num_running for frame in stats), default=0)


@asynccontextmanager
async def running_engine(step_s: float = 0) -> AsyncIterator[Told]:
    frames: list[ToAgent] = []
    durations = TokenDurations(prefill=NO_TIME, step=Duration(mean_s=step_s))
    answer = FirstAnswer(StartSteps(frames.append))
    engine = HollowEngine(START, durations, Random(0), frames.append, answer)
    running = asyncio.create_task(engine.run())
    try:
        yield Told(engine, frames)
    finally:
        running.cancel()
        engine.close()


def request(
    request_id: str, max_tokens: int = 5, attempt: int = 1, generated: int = 0, prompt: int = 3
) -> GenerateTokens:
    sampling = SamplingParameters(max_tokens=max_tokens, seed=1)
    prompt_ids, generated_ids = TokenIds([1] * prompt), TokenIds([2] * generated)
    return GenerateTokens(request_id, attempt, prompt_ids, generated_ids, sampling)


async def test_a_request_gets_a_token_a_message_until_its_limit() -> None:
    async with running_engine() as told:
        told.engine.add(request("a"))
        await eventually(lambda: told.ends("a") == [FinishReason.LENGTH])

    assert [frame.start_index for frame in told.tokens("a")] == [0, 1, 2, 3, 4]
    assert all(len(frame.ids) == 1 for frame in told.tokens("a"))


async def test_a_later_attempt_goes_on_where_the_earlier_one_ended() -> None:
    async with running_engine() as told:
        told.engine.add(request("a", attempt=2, generated=3))
        await eventually(lambda: bool(told.ends("a")))

    assert [(frame.attempt, frame.start_index) for frame in told.tokens("a")] == [(2, 3), (2, 4)]


async def test_no_more_run_than_there_are_slots_and_all_are_served() -> None:
    async with running_engine(step_s=0.01) as told:
        for request_id in "abcd":
            told.engine.add(request(request_id, max_tokens=30))
        await eventually(lambda: all(told.ends(request_id) for request_id in "abcd"))

    assert told.most_running == START.max_slots


async def test_a_cancelled_request_ends_whether_it_runs_or_waits() -> None:
    async with running_engine(step_s=60) as told:
        for request_id in "abc":
            told.engine.add(request(request_id))
        await eventually(lambda: bool(told.tokens("a") and told.tokens("b")))
        for request_id in "ac":
            told.engine.cancel(request_id, 1)
        told.engine.cancel("b", 0)  # of an attempt that is over

    assert told.ends("a") == told.ends("c") == [FinishReason.CANCELLED]
    assert told.ends("b") == []


async def test_a_newer_attempt_replaces_an_older_one() -> None:
    async with running_engine(step_s=60) as told:
        told.engine.add(request("a"))
        await eventually(lambda: bool(told.tokens("a")))
        told.engine.add(request("a", attempt=2, generated=1))

    assert [(frame.attempt, frame.finish) for frame in told.tokens("a")][1] == (
        1,
        FinishReason.CANCELLED,
    )


async def test_the_context_bounds_an_answer_and_what_fills_it_is_refused() -> None:
    async with running_engine() as told:
        told.engine.add(request("long", prompt=60, max_tokens=1000))
        told.engine.add(request("too long", prompt=64))
        await eventually(lambda: bool(told.ends("long")))

    assert len(told.tokens("long")) == 4
    (refused,) = told.tokens("too long")
    assert refused.finish is FinishReason.ERROR
    assert refused.error == "64 tokens leave no room to generate in a context of 64"


async def test_the_load_is_told_and_nothing_when_it_stays_the_same() -> None:
    async with running_engine() as told:
        told.engine.add(request("a"))
        stats = (StatsChanged(0, 0, 0, START.kv_bytes), StatsChanged(0, 0, 0))
        await eventually(lambda: bool(told.ends("a")) and told.frames[-1] in stats)
