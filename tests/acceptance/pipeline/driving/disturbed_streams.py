"""Streams of a fresh pipeline that something happens to, and what must be true afterwards.

The model computes in fp32 and answers are greedy, so the text of a disturbed stream must be the
text of an undisturbed one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.stack import LocalStack
from tests.acceptance.client import Answer, Client
from tests.acceptance.pipeline.driving.leftovers import nothing_left
from tests.acceptance.pipeline.driving.record import Record, StageRow
from tests.support.checkpoints import make_tiny_llama
from tests.support.failures import require_same_tokens
from tests.support.waiting import eventually

NUM_STAGES = 4
FAST_POLL_S = 0.003  # phases of a start last tens of milliseconds
TIMEOUT_S = 60.0
WHOLE_ANSWER_TIMEOUT_S = 180.0  # thousands of tokens by two cores that others use, too


@dataclass
class Models:
    """Registers models whose weights no node has seen, so that every node gets a stage."""

    client: Client
    stack: LocalStack
    record: Record
    sources: Path
    _num_made: int = 0

    async def fresh(
        self, *, num_layers: int = 6, hidden_size: int = 256, **settings: Any
    ) -> "Model":
        self._num_made += 1
        name = f"fresh-{self._num_made}"
        folder = make_tiny_llama(
            self.sources / name,
            seed=1000 + self._num_made,
            num_layers=num_layers,
            hidden_size=hidden_size,
            max_context_tokens=16_384,
            is_endless=True,
        )
        wanted = {
            "keep_alive_s": 1,
            "min_pipeline_size": NUM_STAGES,
            "max_pipeline_size": NUM_STAGES,
            **settings,
        }
        row = await self.client.ready(name, str(folder), **wanted)
        return Model(name, row["id"], self)


@dataclass
class Model:
    name: str
    id: str
    models: Models

    def stream(self, prompt: str, max_tokens: int) -> "Stream":
        answer = Answer()
        asking = self.models.client.stream(
            self.name, prompt, into=answer, max_tokens=max_tokens, temperature=0
        )
        return Stream(self, prompt, max_tokens, answer, asyncio.create_task(asking))

    async def stages(self) -> list[StageRow]:
        return await self.models.record.stages(self.id)

    async def stage(self, index: int) -> StageRow:
        """Of the pipeline that is there."""
        rows = await self.stages()
        assert [row.stage_index for row in rows] == list(range(NUM_STAGES)), rows
        return rows[index]

    async def gone(self) -> None:
        """Delete it; nothing of it, and nothing at all, is left."""
        await self.models.client.delete(self.name)
        await nothing_left(self.models.stack, self.models.client)


@dataclass
class Stream:
    model: Model
    prompt: str
    max_tokens: int
    answer: Answer
    task: "asyncio.Task[Answer]"

    async def until(self, condition: Callable[[], object | Awaitable[object]], what: str) -> Any:
        """The condition's first true value, while the stream goes on."""

        async def found() -> object:
            assert not self.task.done(), f"ended before {what}: {self.answer}"
            value = condition()
            return await value if isinstance(value, Awaitable) else value

        return await eventually(found, timeout_s=TIMEOUT_S, poll_s=FAST_POLL_S, what=what)

    async def until_text(self, num_chunks: int = 20) -> None:
        await self.until(lambda: self.answer.num_chunks >= num_chunks, "streaming")

    async def stage(self, index: int, condition: Callable[[StageRow], bool], what: str) -> StageRow:
        """A stage of the pipeline as soon as it is that far."""

        async def found() -> StageRow | None:
            rows = await self.model.stages()
            return next((r for r in rows if r.stage_index == index and condition(r)), None)

        row: StageRow = await self.until(found, f"stage {index} {what}")
        return row

    async def left(self) -> None:
        """The client closes its connection in the middle of the answer."""
        assert not self.task.done(), self.answer
        self.task.cancel()
        await asyncio.wait({self.task})

    async def is_exact(self) -> None:
        """It ends, with the text that the endpoint gives to whoever asks undisturbed."""
        await asyncio.wait_for(self.task, WHOLE_ANSWER_TIMEOUT_S)
        assert self.answer.is_complete, self.answer
        again = self.model.stream(self.prompt, self.max_tokens)
        whole = await asyncio.wait_for(again.task, WHOLE_ANSWER_TIMEOUT_S)
        assert whole.is_complete, whole
        require_same_tokens(self.answer.text, whole.text)
