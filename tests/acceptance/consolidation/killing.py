"""Ends or stops those who have a part in a consolidation."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from deploy.local.stack import LocalStack
from tests.acceptance.pipeline.driving.disturbed_streams import Stream
from tests.acceptance.pipeline.driving.processes import wake
from tests.acceptance.stacks import held_down

Kill = Callable[[Stream, LocalStack], Awaitable[None]]


def kill_stage(index: int) -> Kill:
    async def kill(stream: Stream, stack: LocalStack) -> None:
        """Of the stages that are left, should it be one worker by now."""
        stages = await stream.model.stages()
        pid = stages[min(index, len(stages) - 1)].pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    return kill


async def kill_fetcher(stream: Stream, stack: LocalStack) -> None:
    """Of the entry's node."""
    entry = (await stream.model.stages())[0]
    _kill(stack, f"fetcher-{entry.node_id}")


async def kill_agent(stream: Stream, stack: LocalStack) -> None:
    """Of the entry's node."""
    entry = (await stream.model.stages())[0]
    _kill(stack, f"agent-{entry.node_id}")


async def kill_schedulers(stream: Stream, stack: LocalStack) -> None:
    """Both, so that nobody takes over before one has started again."""
    for name in stack.processes:
        if name.startswith("scheduler"):
            _kill(stack, name)


def freeze_stage(index: int, freeze_s: float) -> Kill:
    async def freeze(stream: Stream, stack: LocalStack) -> None:
        stages = await stream.model.stages()
        pid = stages[min(index, len(stages) - 1)].process
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(freeze_s)  # what is tried
        wake(pid)

    return freeze


def take_nats_away(outage_s: float) -> Kill:
    async def take_away(stream: Stream, stack: LocalStack) -> None:
        async with held_down(stack, "nats"):
            await asyncio.sleep(outage_s)  # what is tried

    return take_away


def _kill(stack: LocalStack, name: str) -> None:
    if (pid := stack.pid(name)) is not None:
        os.kill(pid, signal.SIGKILL)
