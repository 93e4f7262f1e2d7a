"""Ten streams at once, and what a crash and a frozen bus cost them: little, and none of them alone.

How long is said beside the undisturbed run of the same test; in which order, everywhere.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.stack import LocalStack
from libs.common.records.database import Database
from tests.acceptance.client import Client
from tests.acceptance.observing import known_agent_pids, settled, worker_pids
from tests.acceptance.pipeline.driving.expected_answers import ExpectedAnswer, expected_answers
from tests.acceptance.pipeline.driving.questions import (
    Question,
    QuestionResult,
    ask,
    require_right_tokens,
)
from tests.acceptance.pipeline.driving.record import Record
from tests.support.checkpoints import make_tiny_llama
from tests.support.figures import Figure
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

NUM_STREAMS, NUM_PROMPTS = 10, 2
IN_FLIGHT = 60  # tokens that may still arrive of what was made before a crash
FREEZE_S = 9.0
POLL_S = 0.01


@dataclass(frozen=True)
class Target:
    """A registered model, with answers that it must give."""

    name: str
    answers: tuple[ExpectedAnswer, ...] = field(repr=False)

    @property
    def num_tokens(self) -> int:
        return len(self.answers[0].token_ids)


@pytest.fixture(scope="module")
def quick_folder(sources: Path) -> Path:
    """Of a model that answers for a second or two."""
    return make_tiny_llama(
        sources / "quick", seed=77, is_endless=True, num_layers=8, hidden_size=256
    )


@pytest.fixture(scope="module")
def slow_folder(sources: Path) -> Path:
    """Of a model that answers for some ten seconds."""
    return make_tiny_llama(
        sources / "slow", seed=78, is_endless=True, num_layers=12, hidden_size=256
    )


@pytest.fixture(scope="module")
def quick_answers(quick_folder: Path) -> tuple[ExpectedAnswer, ...]:
    return expected_answers(quick_folder, NUM_PROMPTS, 300)


@pytest.fixture(scope="module")
def slow_answers(slow_folder: Path) -> tuple[ExpectedAnswer, ...]:
    return expected_answers(slow_folder, NUM_PROMPTS, 700)


@pytest_asyncio.fixture(loop_scope="session")
async def record(stack: LocalStack) -> AsyncIterator[Record]:
    database = Database.open(stack.servers.database_settings("scheduler"))
    yield Record(database)
    await database.close()


@asynccontextmanager
async def warm(
    client: Client, stack: LocalStack, folder: Path, answers: tuple[ExpectedAnswer, ...]
) -> AsyncIterator[Target]:
    known_agent_pids(stack)
    name = f"recovery-{folder.name}"
    settings = {"keep_alive_s": 30, "max_slots": 16, "min_pipeline_size": 1, "max_pipeline_size": 1}
    await client.ready(name, str(folder), **settings)
    asked = await ask(client, Question(name, answers[0], 8))
    assert asked.is_right, asked
    yield Target(name, answers)
    await client.delete(name)
    await settled(stack, client)


@pytest_asyncio.fixture(loop_scope="session")
async def quick(
    client: Client,
    stack: LocalStack,
    quick_folder: Path,
    quick_answers: tuple[ExpectedAnswer, ...],
) -> AsyncIterator[Target]:
    async with warm(client, stack, quick_folder, quick_answers) as target:
        yield target


@pytest_asyncio.fixture(loop_scope="session")
async def slow(
    client: Client,
    stack: LocalStack,
    slow_folder: Path,
    slow_answers: tuple[ExpectedAnswer, ...],
) -> AsyncIterator[Target]:
    async with warm(client, stack, slow_folder, slow_answers) as target:
        yield target


@dataclass
class Streams:
    """Asked together; their texts grow while `task` runs."""

    results: list[QuestionResult] = field(repr=False)
    task: "asyncio.Future[list[QuestionResult]]" = field(repr=False)
    began_s: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(cls, client: Client, target: Target) -> "Streams":
        answers = islice(cycle(target.answers), NUM_STREAMS)
        questions = [Question(target.name, answer, target.num_tokens) for answer in answers]
        results = [QuestionResult(question) for question in questions]
        asking = (ask(client, result.question, result) for result in results)
        return cls(results, asyncio.gather(*asking))

    @property
    def lengths(self) -> list[int]:
        return [len(result.text) for result in self.results]

    @property
    def has_one_ended(self) -> bool:
        return any(result.finish_reason or result.error for result in self.results)

    async def until_all(self, lengths: list[int], what: str) -> None:
        """All of them have so much text, before any has ended."""

        async def have() -> bool:
            assert not self.has_one_ended, f"a stream ended before {what}: {self.lengths}"
            return all(a >= b for a, b in zip(self.lengths, lengths, strict=True))

        await eventually(have, timeout_s=120, poll_s=POLL_S, what=what)

    async def until_grown(self) -> None:
        """All that have not ended have more text than now."""
        before = self.lengths

        async def have() -> bool:
            pairs = zip(self.results, before, strict=True)
            return all(result.finish_reason or len(result.text) > n for result, n in pairs)

        await eventually(have, timeout_s=120, poll_s=POLL_S, what="all of them go on")

    async def longest_gap_s(self) -> float:
        """Between two looks at which any one of the streams had grown; returns when all ended."""
        seen, at_s, longest_s = self.lengths, [time.monotonic()] * len(self.results), 0.0
        while not self.task.done():
            await asyncio.sleep(POLL_S)
            for i, (before, now) in enumerate(zip(seen, self.lengths, strict=True)):
                if now > before or self.results[i].finish_reason:
                    at_s[i] = time.monotonic()
                longest_s = max(longest_s, time.monotonic() - at_s[i])
            seen = self.lengths
        return longest_s

    async def are_right(self) -> float:
        """Seconds until all had ended, each with its whole undisturbed answer."""
        results = await asyncio.wait_for(self.task, 300)
        took_s = time.monotonic() - self.began_s
        require_right_tokens(results)
        assert all(result.is_right for result in results), [r.error for r in results]
        return took_s


async def attempts(record: Record, streams: Streams) -> list[int]:
    """Of these requests, once their ends are on record."""
    rows = "FROM requests WHERE id = ANY(:ids) AND state = 'ENDED'"
    ids = [result.request_id for result in streams.results]

    async def are_there() -> bool:
        return await record.value(f"SELECT count(*) {rows}", ids=ids) == len(ids)

    await eventually(are_there, timeout_s=30, poll_s=0.1, what="the records of all requests")
    found = await record.value(f"SELECT array_agg(attempt) {rows}", ids=ids)
    assert isinstance(found, list)
    return found


async def newest_start_s(client: Client, target: Target) -> float:
    """What the latest start of the model took until it served."""
    (newest,) = await client.get(f"/api/v1/cold-starts?model={target.name}&limit=1")
    began, ready = map(datetime.fromisoformat, (newest["started_at"], newest["ready_at"]))
    return (ready - began).total_seconds()


async def kill_the_worker(stack: LocalStack, streams: Streams) -> None:
    await streams.until_all([20] * NUM_STREAMS, "streaming")
    (pid,) = worker_pids(stack)
    os.kill(pid, signal.SIGKILL)


async def freeze_the_bus(stack: LocalStack, seconds: float) -> None:
    stack.kill("nats", signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)  # the freeze itself
    finally:
        stack.kill("nats", signal.SIGCONT)


async def test_ten_streams_go_on_together_after_their_worker_was_killed(
    client: Client,
    stack: LocalStack,
    record: Record,
    quick: Target,
) -> None:
    streams = Streams.begin(client, quick)
    await kill_the_worker(stack, streams)

    resumed = [length + IN_FLIGHT for length in streams.lengths]
    await streams.until_all(resumed, "all of them go on")
    await streams.are_right()
    assert await attempts(record, streams) == [2] * NUM_STREAMS


async def test_a_frozen_bus_is_a_pause_of_ten_streams(
    client: Client,
    stack: LocalStack,
    record: Record,
    quick: Target,
) -> None:
    streams = Streams.begin(client, quick)
    await streams.until_all([20] * NUM_STREAMS, "streaming")
    workers = worker_pids(stack)

    await freeze_the_bus(stack, FREEZE_S)

    await streams.are_right()
    assert await attempts(record, streams) == [1] * NUM_STREAMS
    assert worker_pids(stack) == workers


@pytest.mark.long
async def test_ten_streams_lose_a_start_and_half_their_time_by_a_killed_worker(
    client: Client,
    stack: LocalStack,
    slow: Target,
    figure: Figure,
) -> None:
    undisturbed_s = await Streams.begin(client, slow).are_right()
    streams = Streams.begin(client, slow)
    await kill_the_worker(stack, streams)

    took_s = await streams.are_right()

    start_s = await newest_start_s(client, slow)
    bound_s = 1.5 * undisturbed_s + start_s
    figure(f"{took_s:.1f} s, undisturbed {undisturbed_s:.1f} s, a start {start_s:.1f} s")
    assert took_s <= bound_s, f"{took_s:.1f} s, not {bound_s:.1f} s"


@pytest.mark.long
async def test_two_freezes_of_the_bus_pause_ten_streams_for_no_longer(
    client: Client,
    stack: LocalStack,
    record: Record,
    slow: Target,
    figure: Figure,
) -> None:
    streams = Streams.begin(client, slow)
    await streams.until_all([20] * NUM_STREAMS, "streaming")
    measuring = asyncio.create_task(streams.longest_gap_s())

    await freeze_the_bus(stack, FREEZE_S)
    await streams.until_grown()
    await freeze_the_bus(stack, FREEZE_S)

    await streams.are_right()
    gap_s = await measuring
    figure(f"longest gap {gap_s:.1f} s by freezes of {FREEZE_S:g} s")
    assert gap_s <= FREEZE_S + 2.0
    assert await attempts(record, streams) == [1] * NUM_STREAMS
