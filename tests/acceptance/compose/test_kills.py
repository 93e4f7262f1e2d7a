"""`kill -9` for the first process of every container in turn, under twenty streams.

Once with a model on one worker, and once with one whose endpoint is a pipeline over all nodes.
"""

import asyncio
import os
import signal

import httpx
import pytest

from tests.acceptance.client import Answer, Client
from tests.acceptance.compose.conftest import NUM_NODES
from tests.acceptance.compose.engine import Project
from tests.acceptance.observing import live_endpoints
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.long,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may kill a container's process"),
]

NUM_STREAMS = 20
LONG = 400  # tokens
# Their death cuts the connection itself; a client asks again, as OpenAI's do.
HOLD_CONNECTIONS = ("proxy", "gateway-0", "gateway-1")
SERVICES = (
    *HOLD_CONNECTIONS,
    *("scheduler-0", "scheduler-1", "importer", "nats", "postgres", "minio"),
    *(f"{kind}-{index}" for kind in ("fetcher", "agent") for index in range(4)),
)
ONE_OF_A_KIND = tuple(s for s in SERVICES if not s.endswith(("-1", "-2", "-3")))
KILLED = 128 + signal.SIGKILL


@pytest.mark.parametrize("service", SERVICES)
async def test_it_comes_back_and_everything_accepted_is_answered(
    project: Project, client: Client, model: str, service: str
) -> None:
    await _kill_under_streams(project, client, model, 1, service)


@pytest.mark.parametrize("service", SERVICES)
async def test_it_comes_back_and_a_pipeline_answers_everything_accepted(
    project: Project, client: Client, layered: str, service: str
) -> None:
    await _kill_under_streams(project, client, layered, NUM_NODES, service)


async def _kill_under_streams(
    project: Project, client: Client, model: str, num_stages: int, service: str
) -> None:
    async def is_whole() -> bool:
        await client.stream(model, "hello", max_tokens=1)
        return [e["num_stages"] for e in await live_endpoints(client, model)] == [num_stages]

    # A node that has just failed a model is avoided for a minute.
    await eventually(is_whole, timeout_s=180, poll_s=5, what=f"{num_stages} stages")
    answers = [Answer() for _ in range(NUM_STREAMS)]
    streams = [asyncio.create_task(_ask(client, model, i, answers)) for i in range(NUM_STREAMS)]
    await eventually(lambda: _num_flowing(answers) >= 3, timeout_s=120, what="streams that flow")
    pid = project.pid(service)

    os.kill(pid, signal.SIGKILL)

    num_asked = await asyncio.wait_for(asyncio.gather(*streams), 300)
    assert all(answer.is_complete for answer in answers), [a for a in answers if not a.is_complete]
    assert service in HOLD_CONNECTIONS or num_asked == [1] * NUM_STREAMS
    await eventually(
        lambda: project.pid(service) not in (0, pid) and project.is_healthy(service),
        timeout_s=120,
        poll_s=0.5,
        what=f"{service} again",
    )


@pytest.mark.parametrize("service", ONE_OF_A_KIND)
async def test_one_that_is_told_to_stop_ends_in_time_and_costs_no_stream(
    project: Project, client: Client, model: str, service: str
) -> None:
    answers = [Answer() for _ in range(4)]  # over both gateways
    streams = [asyncio.create_task(_ask(client, model, i, answers)) for i in range(len(answers))]
    await eventually(lambda: _num_flowing(answers) >= 2, timeout_s=120, what="streams that flow")

    await asyncio.to_thread(project.compose, "stop", service)

    assert project.inspect(service)["State"]["ExitCode"] != KILLED
    await asyncio.to_thread(project.compose, "start", service)
    assert await asyncio.wait_for(asyncio.gather(*streams), 120) == [1] * len(streams)
    assert all(answer.is_complete for answer in answers)
    await eventually(lambda: project.is_healthy(service), timeout_s=120, what=f"{service} again")


def _num_flowing(answers: list[Answer]) -> int:
    return sum(answer.num_chunks > 5 for answer in answers)


async def _ask(client: Client, model: str, number: int, answers: list[Answer]) -> int:
    """Puts the answer into its place; returns how often it had to be asked for."""
    num_asked = 0
    while True:
        num_asked += 1
        answers[number] = answer = Answer()
        try:
            await client.stream(
                model, f"question {number}", into=answer, max_tokens=LONG, temperature=0
            )
            return num_asked
        except httpx.TransportError:
            await asyncio.sleep(0.5)
