"""Prompts of more than a message of the bus may have: a real gateway, bus and agent, and the frames
of its workers; only what computes is the test."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest_asyncio

from libs.common.bus.messages import NodeDesired
from libs.common.clock import SystemClock
from libs.common.states import FinishReason
from services.worker.agent.agent import Agent
from services.worker.frames.frames import (
    GenerateTokens,
    Ready,
    Registered,
    TokensProduced,
    ToWorker,
)
from tests.integration.gateway.conftest import RunningGateway
from tests.support.devices import cpu
from tests.support.waiting import eventually
from tests.unit.gateway.tiny import ids_of
from tests.unit.worker.fakes import FakeLauncher, FakeProcess
from tests.unit.worker.values import worker_spec

CONTEXT = 2**22
NUM_ANSWERED = 600
TOKENS_PER_FRAME = 20


def text_of(num_characters: int) -> str:
    """Letters in an order in which a part that is missing or twice would be seen."""
    return "".join(chr(97 + (number * number // 7) % 26) for number in range(num_characters))


def answer(prompt_ids: tuple[int, ...]) -> tuple[int, ...]:
    """It depends on tokens from all over the prompt."""
    step = len(prompt_ids) // NUM_ANSWERED
    return tuple(prompt_ids[number * step] for number in range(NUM_ANSWERED))


@dataclass
class Nodes:
    """An agent whose workers, one for each endpoint, answer as `answer` says."""

    agent: Agent
    launcher: FakeLauncher
    taken: list[GenerateTokens] = field(default_factory=list)
    _serving: list["asyncio.Task[None]"] = field(default_factory=list)

    async def start(self, *endpoint_ids: str, dies_after: int | None = None) -> None:
        """The first worker dies once it has sent so many tokens."""
        specs = [
            worker_spec(
                id_.replace("endpoint", "worker"), endpoint_id=id_, max_context_tokens=CONTEXT
            )
            for id_ in endpoint_ids
        ]
        desired = NodeDesired(node_id="node-a", leader_epoch=1, version=1, workers=tuple(specs))
        assert (await self.agent.follow(desired)).refused is None
        await eventually(lambda: len(self.launcher.processes) == len(specs))
        for number, process in enumerate(self.launcher.processes.values()):
            limit = dies_after if number == 0 else None
            self._serving.append(asyncio.create_task(self._serve(process, limit)))

    async def _serve(self, process: FakeProcess, limit: int | None) -> None:
        await process.say(Registered(None, None))
        await process.say(Ready())
        while True:
            frame = await self._frame(process)
            if isinstance(frame, GenerateTokens):
                self.taken.append(frame)
                await self._produce(process, frame, limit)

    async def _frame(self, process: FakeProcess) -> ToWorker:
        while True:
            try:
                return await process.hear()
            except TimeoutError:
                continue

    async def _produce(
        self, process: FakeProcess, frame: GenerateTokens, limit: int | None
    ) -> None:
        ids = answer(tuple(frame.prompt_ids))
        assert ids[: len(frame.generated_ids)] == tuple(frame.generated_ids)
        for start in range(len(frame.generated_ids), len(ids), TOKENS_PER_FRAME):
            if limit is not None and start >= limit:
                await process.exit(-9, "killed")
                return
            some = ids[start : start + TOKENS_PER_FRAME]
            finish = FinishReason.LENGTH if start + len(some) == len(ids) else None
            tokens = TokensProduced(frame.request_id, frame.attempt, start, some, finish=finish)
            await process.say(tokens)

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
        for process in self.launcher.processes.values():
            await process.exit(0)
        await self.agent.close()


@pytest_asyncio.fixture
async def nodes(running: RunningGateway, tmp_path: Path) -> AsyncIterator[Nodes]:
    launcher = FakeLauncher()
    agent = Agent(
        node_id="node-a",
        boot_id="boot-a",
        devices=(cpu(0),),
        fetcher_socket=tmp_path / "fetcher.sock",
        launcher=launcher,
        bus=running.worker.bus,
        clock=SystemClock(),
    )
    found = Nodes(agent, launcher)
    await agent.open()
    yield found
    await found.close()


async def complete(running: RunningGateway, prompt: str) -> httpx.Response:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": NUM_ANSWERED, "ignore_eos": True}
    return await running.client.post("/v1/completions", json=body)


async def test_a_prompt_of_three_million_tokens_reaches_its_worker_and_is_answered(
    running: RunningGateway, nodes: Nodes
) -> None:
    await running.register(max_context_tokens=CONTEXT)
    await nodes.start("endpoint-a")
    running.scheduler.endpoint_ids = ["endpoint-a"]
    prompt = text_of(3_000_000)

    response = await complete(running, prompt)

    assert response.status_code == 200, response.text
    assert ids_of(response.json()["choices"][0]["text"]) == answer(ids_of(prompt))
    assert response.json()["usage"]["prompt_tokens"] == 3_000_000
    (frame,) = nodes.taken
    assert frame.prompt_ids == ids_of(prompt)


async def test_after_its_worker_was_killed_prompt_and_answer_so_far_go_on_token_for_token(
    running: RunningGateway, nodes: Nodes
) -> None:
    await running.register(max_context_tokens=CONTEXT)
    await nodes.start("endpoint-a", "endpoint-b", dies_after=NUM_ANSWERED // 2)
    running.scheduler.endpoint_ids = ["endpoint-a", "endpoint-b"]
    prompt = text_of(400_000)

    response = await complete(running, prompt)

    assert ids_of(response.json()["choices"][0]["text"]) == answer(ids_of(prompt))
    first, second = nodes.taken
    assert (first.attempt, second.attempt) == (1, 2)
    assert len(second.generated_ids) == NUM_ANSWERED // 2
    assert second.prompt_ids == first.prompt_ids == ids_of(prompt)
