"""Postgres takes no writes for a while, as at a failover: warm streams do not notice, what needs a
row is refused for now, no process ends, and all is well soon after."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from deploy.local.stack import LocalStack
from tests.acceptance.client import Answer, Client
from tests.acceptance.observing import routed, settled
from tests.support.failures import require_same_tokens
from tests.support.readonlypostgres import read_only
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUM_TOKENS = 400
WELL_WITHIN_S = 5.0  # of the end


@pytest_asyncio.fixture(loop_scope="session")
async def models(client: Client, stack: LocalStack, tiny: Path) -> AsyncIterator[None]:
    for name in ("warm", "cold"):
        await client.ready(name, str(tiny), keep_alive_s=600)
    yield
    for name in ("warm", "cold"):
        await client.delete(name)
    await settled(stack, client)


class Streams:
    """One stream after another, for as long as they are wanted."""

    def __init__(self, client: Client) -> None:
        self.answers: list[Answer] = []
        self._client = client
        self._is_wanted = True
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._is_wanted:
            self.answers.append(await warm(self._client))

    def last(self) -> Answer:
        """The last one that has ended. Raises what ended them all."""
        if self._task.done():
            self._task.result()
        return self.answers[-1]

    async def ended(self) -> list[Answer]:
        self._is_wanted = False
        await self._task
        return self.answers


async def warm(client: Client) -> Answer:
    return await client.stream("warm", "go", max_tokens=NUM_TOKENS, temperature=0)


async def write(client: Client) -> httpx.Response:
    """One that changes nothing that the test cares for."""
    return await client.http.post("/api/v1/api-keys", json={"name": "of a test"})


async def test_postgres_taking_no_writes_for_a_while_cuts_no_stream(
    client: Client, stack: LocalStack, models: None
) -> None:
    """It lasts until all that it refuses has been refused."""
    await outage(client, stack, at_least_s=0.0)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_all_is_well_within_five_seconds_of_the_end_of_twenty_without_writes(
    client: Client, stack: LocalStack, models: None
) -> None:
    ended_s = await outage(client, stack, at_least_s=20.0)
    assert time.monotonic() - ended_s < WELL_WITHIN_S


async def outage(client: Client, stack: LocalStack, *, at_least_s: float) -> float:
    """When it ended; all is well when this returns."""
    undisturbed = await warm(client)
    assert undisturbed.is_complete, undisturbed
    await routed(client, "warm")
    starts = {name: process.num_starts for name, process in stack.processes.items()}
    streams = Streams(client)
    async with read_only(stack.servers.postgres):
        began_s = time.monotonic()
        await refuses(client)
        await asyncio.sleep(max(0.0, at_least_s - (time.monotonic() - began_s)))  # the outage
    ended_s = time.monotonic()
    assert starts == {name: process.num_starts for name, process in stack.processes.items()}
    await accepts(client, streams.last())
    for answer in await streams.ended():
        assert answer.is_complete, answer
        require_same_tokens(answer.text, undisturbed.text)
    assert starts == {name: process.num_starts for name, process in stack.processes.items()}
    return ended_s


async def refuses(client: Client) -> None:
    """What needs a row."""
    written, cold = await asyncio.gather(write(client), client.chat("cold", "go", max_tokens=3))
    for refused in (written, cold):
        assert refused.status_code == 503, refused.text
        assert "retry-after" in refused.headers


async def accepts(client: Client, earlier: Answer) -> None:
    """What was refused, and the record of a request that ended meanwhile."""

    async def is_written() -> bool:
        return (await write(client)).status_code == 201

    async def is_recorded() -> bool:
        response = await client.http.get(f"/api/v1/requests/{earlier.request_id}")
        return response.status_code == 200 and bool(response.json()["outcome"])

    await eventually(is_written, what="a write")
    cold = await client.chat("cold", "go", max_tokens=3)
    assert cold.status_code == 200, cold.text
    await eventually(is_recorded, timeout_s=20, what="the record of a request")
