"""One registered model, asked token by token, and what its cold starts were."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.observing import live_endpoints, settled
from tests.support.smollm2 import Reference
from tests.support.waiting import eventually

KEEP_ALIVE_S = 2
SETTLE_TIMEOUT_S = 60
IMPORT_TIMEOUT_S = 300  # a GGUF file is converted


@dataclass(frozen=True)
class TokenAnswer:
    token_ids: tuple[int, ...]  # with the end token where the model ended by itself
    logprobs: tuple[float, ...]  # without it


@dataclass
class ModelSession:
    client: Client
    stack: LocalStack
    model: str
    reference: Reference
    _starts_seen: set[str] = field(default_factory=set)

    async def limit_stages(self, num_stages: int) -> None:
        """Of the cold start that the next question brings about."""
        await settled(self.stack, self.client, timeout_s=SETTLE_TIMEOUT_S)
        change = {"min_pipeline_size": num_stages, "max_pipeline_size": num_stages}
        response = await self.client.http.patch(f"/api/v1/models/{self.model}", json=change)
        assert response.status_code == 200, response.text

    async def ask(self, question: str, num_tokens: int) -> TokenAnswer:
        response = await self.client.chat(
            self.model, question, max_tokens=num_tokens, temperature=0, logprobs=True
        )
        assert response.status_code == 200, response.text
        (choice,) = response.json()["choices"]
        content = choice["logprobs"]["content"]
        token_ids = [self.reference.token_id(bytes(token["bytes"])) for token in content]
        if choice["finish_reason"] == "stop":
            token_ids.append(self.reference.end_id)
        else:
            assert len(token_ids) == num_tokens
        return TokenAnswer(tuple(token_ids), tuple(token["logprob"] for token in content))

    async def ask_in_turn(self, questions: Sequence[str], num_tokens: int) -> list[TokenAnswer]:
        return [await self.ask(question, num_tokens) for question in questions]

    async def ask_together(self, questions: Sequence[str], num_tokens: int) -> list[TokenAnswer]:
        return await asyncio.gather(*(self.ask(question, num_tokens) for question in questions))

    async def check_stages(self, num_stages: int) -> None:
        """One cold start since the last look: of so many stages, a node for each. It still runs."""
        starts = await self.client.get(f"/api/v1/cold-starts?model={self.model}")
        (start_id,) = {start["id"] for start in starts} - self._starts_seen
        self._starts_seen.add(start_id)
        (endpoint,) = await live_endpoints(self.client, self.model)
        assert starts[0]["endpoint_id"] == endpoint["id"]
        assert len({worker["node_id"] for worker in endpoint["workers"]}) == num_stages

        async def are_all_told() -> bool:  # the last steps come with the nodes' next heartbeats
            start = await self.client.get(f"/api/v1/cold-starts/{start_id}")
            stages = {step["stage_index"] for step in start["steps"]} - {None}
            return stages == set(range(num_stages))

        await eventually(are_all_told, poll_s=0.1, what=f"the steps of {num_stages} stages")


@asynccontextmanager
async def open_session(
    client: Client, stack: LocalStack, name: str, source: Path, reference: Reference
) -> AsyncIterator[ModelSession]:
    """A model registered from `source`, whose units must be in no host cache yet."""
    await client.register(name, str(source), keep_alive_s=KEEP_ALIVE_S)
    imported = await client.imported(name, timeout_s=IMPORT_TIMEOUT_S)
    assert imported["state"] == "READY", imported
    yield ModelSession(client, stack, name, reference)
    await client.delete(name)
    await settled(stack, client, timeout_s=SETTLE_TIMEOUT_S)
