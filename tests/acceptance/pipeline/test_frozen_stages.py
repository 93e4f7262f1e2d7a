"""A stage, or a whole node, stands still and goes on later; by then nobody listens to it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.pipeline.driving.disturbed_streams import NUM_STAGES, Model, Models, Stream
from tests.acceptance.pipeline.driving.processes import is_there, processes_of_node, wake
from tests.acceptance.pipeline.driving.record import StageRow
from tests.support.frozenthread import FrozenThread
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("agents_are_known"),
]

NUM_TOKENS = 400
LONG_FREEZE_S = 20.0
OLD_WORKER_ENDS_S = 10.0


@pytest.mark.parametrize(
    ("index", "freeze_s"),
    [
        (1, 0.0),
        *(pytest.param(i, LONG_FREEZE_S, marks=pytest.mark.long) for i in range(NUM_STAGES)),
    ],
)
async def test_a_frozen_stage_is_replaced_and_ended(
    models: Models, index: int, freeze_s: float
) -> None:
    model = await models.fresh()
    stream, stage = await streaming(model, index)

    async with frozen(stage.process, at_least_s=freeze_s):
        await stream.is_exact()

    assert all(row.id != stage.id for row in await model.stages())
    await ended(stage)
    await model.gone()


@pytest.mark.long
@pytest.mark.parametrize("index", [0, 2])
async def test_a_node_that_stood_still_ends_its_old_worker_when_it_goes_on(
    models: Models, wide_stack: LocalStack, index: int
) -> None:
    model = await models.fresh()
    stream, stage = await streaming(model, index)

    async with frozen(*processes_of_node(wide_stack, stage.node_id), at_least_s=LONG_FREEZE_S):
        await stream.is_exact()
        assert is_there(stage.process), "nobody was left to end it"

    await ended(stage)
    await model.gone()


@pytest.mark.long
@pytest.mark.parametrize("index", [0, 2])
async def test_a_stage_whose_engine_alone_hangs_is_replaced(models: Models, index: int) -> None:
    model = await models.fresh()
    stream, stage = await streaming(model, index)

    with FrozenThread(stage.process):  # its other threads go on, and so do its heartbeats
        await stream.is_exact()

    assert all(row.id != stage.id for row in await model.stages())
    await model.gone()


async def streaming(model: Model, index: int) -> tuple[Stream, StageRow]:
    stream = model.stream("go", NUM_TOKENS)
    await stream.until_text()
    return stream, await model.stage(index)


@asynccontextmanager
async def frozen(*pids: int, at_least_s: float) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    until_s = loop.time() + at_least_s
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
        await asyncio.sleep(max(0.0, until_s - loop.time()))
    finally:
        for pid in pids:
            wake(pid)


async def ended(stage: StageRow) -> None:
    await eventually(
        lambda: not is_there(stage.process),
        timeout_s=OLD_WORKER_ENDS_S,
        what="the end of the old worker",
    )
