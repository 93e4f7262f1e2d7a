"""Each stage dies at each phase of its life; the stream that needs it goes on exactly."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.pipeline.driving.disturbed_streams import (
    NUM_STAGES,
    Model,
    Models,
    Stream,
)
from tests.acceptance.pipeline.driving.processes import processor_s, worker_of_node
from tests.support.figures import Tally

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("agents_are_known"),
]

NUM_TOKENS = 300
LONG_PROMPT = "all work and no play makes jack a dull boy. " * 100  # seconds of prefill
COMPUTING_S = 0.1  # of processor time: it has begun

NUM_TRIES = 5  # to strike within a phase

Phase = Callable[[Model, LocalStack, int], Awaitable[Stream]]


class PhaseMissed(Exception):
    """It was over before the kill."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.stream = stream


async def before_registered(model: Model, stack: LocalStack, index: int) -> Stream:
    stream = model.stream("go", NUM_TOKENS)
    stage = await stream.stage(index, lambda row: True, "planned")
    pid = await stream.until(lambda: worker_of_node(stack, stage.node_id), "its process")
    os.kill(pid, signal.SIGKILL)
    if (await model.models.record.was(stage.id)).is_registered:
        raise PhaseMissed(stream)
    return stream


async def before_ready(model: Model, stack: LocalStack, index: int) -> Stream:
    stream = model.stream("go", NUM_TOKENS)
    stage = await stream.stage(
        index, lambda row: row.is_registered and row.pid is not None, "there"
    )
    if stage.is_ready:
        raise PhaseMissed(stream)
    os.kill(stage.process, signal.SIGKILL)
    return stream


async def during_prefill(model: Model, stack: LocalStack, index: int) -> Stream:
    warm = model.stream("go", 2)
    await warm.task
    stage = await model.stage(index)
    used_s = processor_s(stage.process)
    stream = model.stream(LONG_PROMPT, NUM_TOKENS)
    await stream.until(lambda: processor_s(stage.process) > used_s + COMPUTING_S, "prefill")
    os.kill(stage.process, signal.SIGKILL)
    if stream.answer.text:
        raise PhaseMissed(stream)
    return stream


async def mid_decode(model: Model, stack: LocalStack, index: int) -> Stream:
    stream = model.stream("go", NUM_TOKENS)
    await stream.until_text()
    stage = await model.stage(index)
    os.kill(stage.process, signal.SIGKILL)
    if stream.task.done():
        raise PhaseMissed(stream)
    return stream


PHASES: tuple[Phase, ...] = (before_registered, before_ready, during_prefill, mid_decode)
# One of each phase and each stage for every run.
SAMPLE = {(before_registered, 2), (before_ready, 0), (during_prefill, 1), (mid_decode, 3)}


@pytest.mark.parametrize(
    ("phase", "index"),
    [
        pytest.param(
            *(phase, index),
            marks=() if (phase, index) in SAMPLE else pytest.mark.long,
            id=f"stage {index} {phase.__name__}",
        )
        for phase in PHASES
        for index in range(NUM_STAGES)
    ],
)
async def test_a_killed_stage_leaves_the_stream_exact_and_nothing_behind(
    models: Models, wide_stack: LocalStack, phase: Phase, index: int, tally: Tally
) -> None:
    stream = await stream_with_killed_stage(models, wide_stack, phase, index)

    await stream.is_exact()
    tally("killed stages", streams_exact=1)
    await stream.model.gone()


async def stream_with_killed_stage(
    models: Models, stack: LocalStack, phase: Phase, index: int
) -> Stream:
    """A stream whose stage was killed in that phase; each try has weights that no node has seen."""
    for _ in range(NUM_TRIES):
        model = await models.fresh()
        try:
            return await phase(model, stack, index)
        except PhaseMissed as missed:
            missed.stream.task.cancel()
            await asyncio.wait({missed.stream.task})
            await model.gone()
    raise AssertionError(f"{phase.__name__} was over {NUM_TRIES} times before the kill")
