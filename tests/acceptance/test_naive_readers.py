"""Real cold and warm streams, as clients with naive readers of server-sent events see them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.observing import settled
from tests.support.checkpoints import make_tiny_llama
from tests.support.failures import require_same_tokens
from tests.support.waiting import eventually
from tests.unit.gateway.openai.naive_readers import READERS

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUM_TOKENS = 20
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hello"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model(client: Client, stack: LocalStack, sources: Path) -> AsyncIterator[str]:
    folder = make_tiny_llama(sources / "naive", seed=41, is_endless=True)
    await client.ready("naive", str(folder), keep_alive_s=1)
    yield "naive"
    await client.delete("naive")
    await settled(stack, client)


async def reads_of(client: Client, path: str, model: str) -> list[bytes]:
    body = {
        "model": model,
        "stream": True,
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "stream_options": {"include_usage": True},
        **REQUESTS[path],
    }
    async with client.http.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        return [read async for read in response.aiter_raw()]


def text_of(events: list[Any]) -> str:
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for c in choices)


@pytest.mark.parametrize("path", REQUESTS)
async def test_every_reader_sees_all_of_cold_and_of_warm_streams(
    client: Client, stack: LocalStack, model: str, path: str
) -> None:
    await settled(stack, client)

    async def without_comments() -> list[bytes] | None:
        """A gateway may hear of the route a moment after the first answer."""
        reads = await reads_of(client, path, model)
        return reads if b"".join(reads).startswith(b"data: ") else None

    cold = await reads_of(client, path, model)
    warm = await eventually(without_comments, timeout_s=30, what="a stream without comments")

    assert b": progress" in b"".join(cold)
    assert isinstance(warm, list)
    expected = text_of(READERS[-1](warm))
    for reads in (cold, warm):
        for read in READERS:
            events = read(reads)
            require_same_tokens(text_of(events), expected, read.__name__)
            assert events[-1]["usage"]["completion_tokens"] == NUM_TOKENS
