"""One tenant's many queued streams do not keep another tenant's warm requests from an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.nodes import equal_nodes
from deploy.local.options import StackOptions
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from tests.acceptance.client import Answer, Client
from tests.support.checkpoints import make_tiny_llama
from tests.support.waiting import eventually

KV_CACHE_BYTES = 9 * 2**28  # each model's takes more than half of the node
NODE = {"nic": "1G", "memory": "4Gi", "host_cache": "64Mi", "cores": 1}
SETTINGS = {"kv_cache_bytes": KV_CACHE_BYTES, "max_queue": 10_000, "keep_alive_s": 3600}


@asynccontextmanager
async def tenants(folder: Path) -> AsyncIterator[dict[str, Client]]:
    """Each with a model of its name; the only node has room for one model."""
    sources = folder / "sources"
    for seed, name in enumerate(("quiet", "noisy")):
        make_tiny_llama(sources / name / "tiny", seed=seed, is_endless=True)
    options = StackOptions(
        state=StateFolder(folder / "state"), nodes=equal_nodes(1, NODE), import_roots=(sources,)
    )
    async with LocalStack(options) as stack:
        operator = Client(stack.gateway_url, stack.api_key)
        clients = {"operator": operator}
        try:
            for name in ("quiet", "noisy"):
                body = {"name": "test", "tenant": name}
                created = (await operator.http.post("/api/v1/api-keys", json=body)).json()
                clients[name] = Client(stack.gateway_url, created["key"], max_connections=4_000)
                await clients[name].ready(name, str(sources / name / "tiny"), **SETTINGS)
            yield clients
        finally:
            for client in clients.values():
                await client.close()


@asynccontextmanager
async def held(client: Client, count: int) -> AsyncIterator[list[Answer]]:
    """Streams that wait in the queue; each has its headers."""
    answers = [Answer() for _ in range(count)]
    tasks = [
        asyncio.create_task(client.stream("noisy", "hi", into=answer, max_tokens=4))
        for answer in answers
    ]
    try:
        what = "an answer's head for each"
        await eventually(lambda: all(a.status for a in answers), timeout_s=300, what=what)
        yield answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def busy_endpoint(client: Client) -> AsyncIterator[None]:
    """An endpoint that is never idle, so that there is no room for another one.

    Streams of different lengths: others go on while one ends and is asked for again.
    """
    first = {max_tokens: Answer() for max_tokens in (2_000, 1_700, 1_100)}
    tasks = [asyncio.create_task(_stream_on(client, *stream)) for stream in first.items()]
    try:
        what = "a first token of each stream"
        await eventually(lambda: all(a.num_chunks for a in first.values()), timeout_s=60, what=what)
        yield
        assert not any(task.done() for task in tasks), "a stream ended, so it was perhaps idle"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _stream_on(client: Client, max_tokens: int, first: Answer) -> None:
    """One after the other until it is cancelled, or one of them is not complete."""
    answer = await client.stream("quiet", "hi", into=first, max_tokens=max_tokens)
    while answer.is_complete:
        answer = await client.stream("quiet", "hi", max_tokens=max_tokens)


@pytest.mark.parametrize(
    "num_streams", [150, pytest.param(2_500, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
async def test_many_queued_streams_of_one_tenant_cost_no_other_its_answer(
    tmp_path: Path, num_streams: int
) -> None:
    async with tenants(tmp_path) as clients:
        quiet, noisy = clients["quiet"], clients["noisy"]
        assert (await quiet.stream("quiet", "hi", max_tokens=2)).is_complete

        async with busy_endpoint(quiet), held(noisy, num_streams) as waiting:
            answers = [await quiet.stream("quiet", "hi", max_tokens=8) for _ in range(20)]

            assert [answer.num_chunks for answer in waiting] == num_streams * [0]
            assert {answer.status for answer in waiting} == {200}

        assert all(answer.is_complete for answer in answers)
