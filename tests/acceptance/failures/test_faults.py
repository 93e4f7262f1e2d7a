"""Everything is killed once; every accepted request ends right and nothing leaks.

The model computes in fp32 and answers are greedy, so the text of an interrupted stream must be the
text of an undisturbed one.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text

from deploy.local.stack import LocalStack
from libs.common.records.database import Database
from tests.acceptance.client import Answer, Client
from tests.acceptance.observing import (
    known_agent_pids,
    live_endpoints,
    reserved_bytes,
    routed,
    settled,
    worker_pids,
)
from tests.acceptance.stacks import held_down
from tests.support.checkpoints import make_tiny_llama
from tests.support.failures import require_same_tokens
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = 1500  # tokens; several seconds of streaming


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model(client: Client, stack: LocalStack, tiny: Path) -> AsyncIterator[str]:
    await client.ready("fault", str(tiny), keep_alive_s=3)
    yield "fault"
    await client.delete("fault")
    await settled(stack, client)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def expected(client: Client, model: str) -> str:
    answer = await client.stream(model, "go", max_tokens=LONG, temperature=0)
    assert answer.is_complete, answer
    return answer.text


@pytest.fixture(autouse=True)
def agents_are_known(stack: LocalStack) -> None:
    known_agent_pids(stack)


async def start_stream(client: Client, model: str) -> tuple[Answer, "asyncio.Task[Answer]"]:
    """A stream that has begun and goes on for seconds."""
    answer = Answer()
    task = asyncio.create_task(
        client.stream(model, "go", into=answer, max_tokens=LONG, temperature=0)
    )
    await eventually(lambda: answer.num_chunks > 5 or task.done(), timeout_s=60, what="streaming")
    assert not task.done(), answer
    return answer, task


async def start_cold(
    client: Client, stack: LocalStack, model: str
) -> tuple[Answer, "asyncio.Task[Answer]"]:
    """A request to a cold model whose worker process has just been launched."""
    await settled(stack, client)
    answer = Answer()
    task = asyncio.create_task(
        client.stream(model, "go", into=answer, max_tokens=LONG, temperature=0)
    )
    await eventually(lambda: worker_pids(stack) or task.done(), what="a worker process")
    assert not task.done(), answer
    return answer, task


async def finished(answer: Answer, task: "asyncio.Task[Answer]", expected: str) -> None:
    await asyncio.wait_for(task, 90)
    assert answer.is_complete, answer
    require_same_tokens(answer.text, expected)


async def test_a_worker_killed_mid_stream_is_replaced_and_the_stream_continues_exactly(
    client: Client, stack: LocalStack, model: str, expected: str
) -> None:
    answer, task = await start_stream(client, model)
    (pid,) = worker_pids(stack)
    os.kill(pid, signal.SIGKILL)
    await finished(answer, task, expected)


async def test_a_worker_killed_while_it_starts_is_replaced(
    client: Client, stack: LocalStack, model: str, expected: str
) -> None:
    answer, task = await start_cold(client, stack, model)
    (pid,) = worker_pids(stack)
    os.kill(pid, signal.SIGKILL)
    await finished(answer, task, expected)


async def test_an_agent_killed_mid_stream_takes_its_workers_along_and_the_stream_continues(
    client: Client, stack: LocalStack, model: str, expected: str
) -> None:
    answer, task = await start_stream(client, model)
    (pid,) = worker_pids(stack)
    agent = next(
        name
        for name in stack.processes
        if name.startswith("agent-") and stack.pid(name) == parent_of(pid)
    )
    stack.kill(agent)
    await eventually(lambda: pid not in worker_pids(stack), timeout_s=5, what="the worker's end")
    await finished(answer, task, expected)
    await stack.wait_ready(agent)


async def test_a_scheduler_killed_with_requests_waiting_loses_none(
    client: Client, stack: LocalStack, model: str, expected: str
) -> None:
    answer, task = await start_cold(client, stack, model)
    others = [asyncio.create_task(client.stream(model, f"n {i}", max_tokens=10)) for i in range(5)]
    stack.kill("scheduler-0")
    await finished(answer, task, expected)
    assert all(other.is_complete for other in await asyncio.gather(*others))
    await stack.wait_ready("scheduler-0")


async def test_a_scheduler_killed_mid_stream_is_not_noticed(
    client: Client, stack: LocalStack, model: str, expected: str
) -> None:
    answer, task = await start_stream(client, model)
    stack.kill("scheduler-0")
    await finished(answer, task, expected)
    assert answer.status == 200
    await stack.wait_ready("scheduler-0")


async def test_a_fetcher_killed_while_it_fetches_resumes_what_it_had(
    client: Client, stack: LocalStack, sources: Path
) -> None:
    # Over one link of 50 MB/s: four seconds, in which progress is told more than once.
    folder = make_tiny_llama(sources / "wide", seed=3, hidden_size=1024, num_layers=7)
    await client.ready("wide", str(folder), keep_alive_s=1, max_pipeline_size=1)
    answer = Answer()
    task = asyncio.create_task(client.stream("wide", "go", into=answer, max_tokens=8))
    name = await fetching_fetcher(client, answer)
    stack.kill(name)
    await asyncio.wait_for(task, 60)

    assert answer.is_complete, answer
    await stack.wait_ready(name)
    await client.delete("wide")
    await settled(stack, client)


async def fetching_fetcher(client: Client, answer: Answer) -> str:
    """The name of the fetcher in the middle of a fetch, as the waiting client is told."""

    def is_fetching() -> bool:
        told = [json.loads(p.removeprefix("progress ")) for p in answer.progress if "{" in p]
        return any(0 < (p.get("bytes_done") or 0) < (p.get("bytes_total") or 0) for p in told)

    await eventually(is_fetching, timeout_s=20, what="a fetch under way")
    (endpoint,) = await live_endpoints(client, "wide")
    return f"fetcher-{endpoint['workers'][0]['node_id']}"


async def test_nats_killed_for_ten_seconds_pauses_streams_and_loses_nothing(
    client: Client, stack: LocalStack, model: str, expected: str
) -> None:
    answer, task = await start_stream(client, model)
    async with held_down(stack, "nats"):
        await asyncio.sleep(10)  # the outage itself
    await finished(answer, task, expected)
    again = await client.stream(model, "go", max_tokens=20, temperature=0)
    assert again.is_complete, again
    require_same_tokens(again.text, expected[: len(again.text)])


async def test_postgres_killed_for_five_seconds_leaves_warm_traffic_alone(
    client: Client, stack: LocalStack, model: str, expected: str
) -> None:
    answer, task = await start_stream(client, model)
    await routed(client, model)  # the first tokens may be there before the route is
    async with held_down(stack, "postgres"):
        warm = await client.stream(model, "go", max_tokens=20, temperature=0)
        assert warm.is_complete, warm
        refused = await client.http.post("/api/v1/models", json={"name": "x", "source": "/x"})
        assert refused.status_code == 503 and "retry-after" in refused.headers
        await asyncio.sleep(5)  # the outage itself
    await finished(answer, task, expected)

    async def recorded() -> bool:
        response = await client.http.get(f"/api/v1/requests/{answer.request_id}")
        return response.status_code == 200 and bool(response.json()["outcome"])

    await eventually(recorded, timeout_s=20, what="the record of the request")


async def test_a_cold_request_waits_while_postgres_restarts(
    client: Client, stack: LocalStack, model: str, expected: str
) -> None:
    answer, task = await start_cold(client, stack, model)
    stack.kill("postgres")
    await finished(answer, task, expected)


async def test_nothing_is_left_when_all_is_over(
    client: Client, stack: LocalStack, model: str
) -> None:
    await settled(stack, client, timeout_s=60)
    assert await reserved_bytes(client) == 0
    database = Database.open(stack.servers.database_settings("scheduler"))
    async with database.transaction() as session:
        unfinished = await session.scalar(
            text("SELECT count(*) FROM requests WHERE state <> 'ENDED'")
        )
        reserved = await session.scalar(text("SELECT count(*) FROM reservations"))
        desired = await session.scalar(text("SELECT count(*) FROM workers WHERE is_desired"))
    await database.close()
    assert (unfinished, reserved, desired) == (0, 0, 0)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
