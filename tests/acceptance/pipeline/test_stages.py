"""The same tokens from one stage as from four, whatever is killed meanwhile."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Answer, Client
from tests.acceptance.observing import known_agent_pids, live_endpoints, settled, worker_pids
from tests.acceptance.pipeline.conftest import NUM_NODES
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NUM_PROMPTS = 20
NUM_TOKENS = 24
LONG = 600  # tokens; seconds of streaming


@pytest.fixture(autouse=True)
def agents_are_known(wide_stack: LocalStack) -> None:
    known_agent_pids(wide_stack)


async def registered(client: Client, name: str, source: Path, num_stages: int) -> str:
    await client.ready(name, str(source), keep_alive_s=3, max_pipeline_size=num_stages)
    return name


async def answers(client: Client, model: str) -> list[str]:
    streams = (
        client.stream(model, f"prompt {i}", max_tokens=NUM_TOKENS, temperature=0)
        for i in range(NUM_PROMPTS)
    )
    found = await asyncio.gather(*streams)
    assert all(answer.is_complete for answer in found), found
    return [answer.text for answer in found]


async def gone(client: Client, stack: LocalStack, model: str) -> None:
    await client.delete(model)
    await settled(stack, client)


async def start_stream(client: Client, model: str) -> tuple[Answer, "asyncio.Task[Answer]"]:
    answer = Answer()
    task = asyncio.create_task(
        client.stream(model, "go", into=answer, max_tokens=LONG, temperature=0)
    )
    await eventually(lambda: answer.num_chunks > 20 or task.done(), timeout_s=60, what="streaming")
    assert not task.done(), answer
    return answer, task


async def test_four_stages_say_what_one_says(
    wide_client: Client, wide_stack: LocalStack, layered: Path
) -> None:
    texts = {}
    for num_stages in (4, 3, 2, 1):
        model = await registered(wide_client, f"stages-{num_stages}", layered, num_stages)
        texts[num_stages] = await answers(wide_client, model)
        (endpoint,) = await live_endpoints(wide_client, model)
        assert len({worker["node_id"] for worker in endpoint["workers"]}) == num_stages
        assert endpoint["state"] == ("PIPELINED" if num_stages > 1 else "STANDALONE")
        await gone(wide_client, wide_stack, model)
    num_parted = [
        sum(ours != theirs for ours, theirs in zip(texts[s], texts[1], strict=True))
        for s in (2, 3, 4)
    ]
    print(f"\nparted from one stage's text, of {NUM_PROMPTS}, at 2, 3, 4 stages: {num_parted}")
    assert max(num_parted) <= NUM_PROMPTS // 5


async def test_a_stage_killed_mid_decode_leaves_the_stream_exact(
    wide_client: Client, wide_stack: LocalStack, layered: Path
) -> None:
    model = await registered(wide_client, "killed", layered, NUM_NODES)
    whole = await wide_client.stream(model, "go", max_tokens=LONG, temperature=0)
    assert whole.is_complete
    answer, task = await start_stream(wide_client, model)
    os.kill(max(worker_pids(wide_stack)), signal.SIGKILL)
    await asyncio.wait_for(task, 90)
    assert answer.is_complete, answer
    assert answer.text == whole.text
    await gone(wide_client, wide_stack, model)
