"""A gateway is killed in mid-stream: what its client got is in the usage all the same."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import Row, text

from deploy.local.stack import LocalStack
from libs.common.records.database import Database
from tests.acceptance.client import Answer, Client
from tests.acceptance.observing import settled
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODEL = "cut-off"
MAX_TOKENS = 1500
ROW = "SELECT outcome, is_accounted, num_generated_tokens FROM requests WHERE id = :id"
USAGE = """
SELECT num_requests, num_generated_tokens FROM usage
WHERE model_id = (SELECT model_id FROM requests WHERE id = :id)
"""


@pytest_asyncio.fixture(loop_scope="session")
async def records(stack: LocalStack) -> AsyncIterator[Database]:
    opened = Database.open(stack.servers.database_settings("scheduler"))
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def model(client: Client, stack: LocalStack, tiny: Path) -> AsyncIterator[str]:
    await client.ready(MODEL, str(tiny), keep_alive_s=600)
    yield MODEL
    await client.delete(MODEL)
    await settled(stack, client)


async def row(records: Database, statement: str, request_id: str) -> Row[tuple[object, ...]]:
    async with records.transaction() as session:
        return (await session.execute(text(statement), {"id": request_id})).one()


async def cut_stream(client: Client, stack: LocalStack, model: str) -> Answer:
    """What a client had got when its gateway was killed; another one serves when this returns."""
    answer = Answer()

    async def read() -> None:
        body = {"max_tokens": MAX_TOKENS, "temperature": 0, "logprobs": True}
        await client.stream(model, "go", into=answer, **body)

    reading = asyncio.create_task(read())
    await eventually(lambda: answer.num_chunks > 20, timeout_s=60, what="streaming")
    stack.kill("gateway-0")
    with pytest.raises(httpx.HTTPError):
        await reading
    await stack.wait_ready("gateway-0")
    return answer


async def counted_tokens(records: Database, answer: Answer) -> int:
    """Of a cut stream, once they are in the usage."""
    assert answer.request_id is not None
    request_id = answer.request_id

    async def is_accounted() -> bool:
        return bool((await row(records, ROW, request_id)).is_accounted)

    await eventually(is_accounted, timeout_s=120, poll_s=0.2, what="the account of the request")
    found = await row(records, ROW, request_id)
    usage = await row(records, USAGE, request_id)
    assert found.outcome == "gateway_lost"
    assert (usage.num_requests, usage.num_generated_tokens) == (1, found.num_generated_tokens)
    return int(found.num_generated_tokens)


async def test_a_stream_cut_with_its_gateway_owes_for_what_was_delivered(
    client: Client, stack: LocalStack, model: str, records: Database
) -> None:
    answer = await cut_stream(client, stack, model)

    # The first chunk has the role; each further one has a token or more.
    assert answer.num_chunks - 1 <= await counted_tokens(records, answer) <= MAX_TOKENS


@pytest.mark.long
async def test_a_stream_cut_with_its_gateway_is_accounted_for_within_a_minute(
    client: Client, stack: LocalStack, model: str, records: Database
) -> None:
    answer = await cut_stream(client, stack, model)
    began_s = time.monotonic()

    await counted_tokens(records, answer)
    assert time.monotonic() - began_s < 60.0
