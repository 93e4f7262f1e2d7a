"""Whoever dies while a pipeline becomes one worker: every stream ends with the right tokens."""

import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.consolidation.watching import consolidated, consolidating
from tests.acceptance.pipeline.driving.disturbed_streams import Model, Models, Stream

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("agents_are_known"),
]

NUM_TOKENS = 1_500
SERVING_S = 30

Kill = Callable[[Stream, LocalStack], Awaitable[None]]


def kill_stage(index: int) -> Kill:
    async def kill(stream: Stream, stack: LocalStack) -> None:
        stages = await stream.model.stages()
        os.kill(stages[index].process, signal.SIGKILL)

    return kill


async def kill_fetcher(stream: Stream, stack: LocalStack) -> None:
    entry = (await stream.model.stages())[0]
    pid = stack.pid(f"fetcher-{entry.node_id}")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def kill_schedulers(stream: Stream, stack: LocalStack) -> None:
    """Both, so that nobody takes over before one has started again."""
    for name in stack.processes:
        if name.startswith("scheduler") and (pid := stack.pid(name)) is not None:
            os.kill(pid, signal.SIGKILL)


WHILE_IT_LOADS = {
    "the entry": kill_stage(0),
    "the last stage": kill_stage(-1),
    "the fetcher of the entry": kill_fetcher,
    "the schedulers": kill_schedulers,
}


async def streaming(models: Models) -> tuple[Model, Stream]:
    model = await models.fresh(keep_alive_s=SERVING_S)
    stream = model.stream("go", NUM_TOKENS)
    await stream.until_text()
    return model, stream


@pytest.mark.parametrize("kill", WHILE_IT_LOADS.values(), ids=WHILE_IT_LOADS.keys())
async def test_killed_while_it_loads(
    joining_models: Models, joining_stack: LocalStack, joining_client: Client, kill: Kill
) -> None:
    model, stream = await streaming(joining_models)
    await stream.until(lambda: consolidating(joining_client, model.name), "that it has begun")

    await kill(stream, joining_stack)

    await stream.is_exact()
    await model.gone()


@pytest.mark.parametrize("kill", [kill_stage(0), kill_schedulers], ids=["it", "the schedulers"])
async def test_killed_once_it_is_one_worker(
    joining_models: Models, joining_stack: LocalStack, joining_client: Client, kill: Kill
) -> None:
    model, stream = await streaming(joining_models)
    await stream.until(lambda: consolidated(joining_client, model.name), "one worker")

    await kill(stream, joining_stack)

    await stream.is_exact()
    await model.gone()
