"""When an agent stops waiting for a worker process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count, repeat

from libs.common.causes import Cause, CauseKind
from services.worker.agent.processes.watchdog import Watchdog, WatchdogLimits
from services.worker.frames.frames import StatsChanged, StepTaken, ToAgent, TokensProduced

ENGINE_S = 0.2
ENGINE_HUNG = Cause(CauseKind.ENGINE_HUNG, {"seconds": ENGINE_S})
FRAME_INTERVAL_S = 0.01
NUM_FRAMES_PAST_PATIENCE = int(4 * ENGINE_S / FRAME_INTERVAL_S)


def same_progress() -> Iterator[ToAgent]:
    return repeat(StatsChanged(1, 0, 64, progress=7))


def growing_progress() -> Iterator[ToAgent]:
    return (StatsChanged(1, 0, 64, progress=number) for number in count())


def tokens() -> Iterator[ToAgent]:
    return (TokensProduced("request-a", 1, index, (5,)) for index in count())


class Process:
    """Says its frames at a steady rate; `is_starting` until it is told otherwise."""

    def __init__(self, frames: Iterator[ToAgent]) -> None:
        self.is_starting = False
        self.num_said = 0
        self._frames = frames
        self._said = asyncio.Condition()
        self.watchdog = Watchdog(WatchdogLimits(engine_s=ENGINE_S), start_timeout_s=60.0)

    async def talk(self) -> None:
        for frame in self._frames:
            self.watchdog.note(frame)
            async with self._said:
                self.num_said += 1
                self._said.notify_all()
            await asyncio.sleep(FRAME_INTERVAL_S)

    async def has_said(self, num_frames: int) -> None:
        async with asyncio.timeout(30), self._said:
            await self._said.wait_for(lambda: self.num_said >= num_frames)


@asynccontextmanager
async def watched(process: Process) -> AsyncIterator["asyncio.Task[Cause]"]:
    talking = asyncio.create_task(process.talk())
    trouble = asyncio.create_task(process.watchdog.trouble(lambda: process.is_starting))
    try:
        yield trouble
    finally:
        for task in (talking, trouble):
            task.cancel()
        await asyncio.gather(talking, trouble, return_exceptions=True)


async def trouble_of(process: Process) -> Cause | None:
    """What the watchdog says while so many frames come; None: nothing."""
    async with watched(process) as trouble:
        saying = asyncio.create_task(process.has_said(NUM_FRAMES_PAST_PATIENCE))
        await asyncio.wait({saying, trouble}, return_when=asyncio.FIRST_COMPLETED)
        saying.cancel()
        return trouble.result() if trouble.done() else None


async def test_an_engine_that_stands_is_noticed_although_other_threads_speak() -> None:
    assert await trouble_of(Process(same_progress())) == ENGINE_HUNG


async def test_an_engine_that_turns_is_left_alone() -> None:
    assert await trouble_of(Process(growing_progress())) is None


async def test_tokens_are_progress_though_no_load_is_told_between_them() -> None:
    assert await trouble_of(Process(tokens())) is None


async def test_a_start_may_stand_as_long_as_a_start_may_take() -> None:
    process = Process(same_progress())
    process.is_starting = True
    async with watched(process) as trouble:
        await process.has_said(NUM_FRAMES_PAST_PATIENCE)
        assert not trouble.done()
        process.is_starting = False
        assert await asyncio.wait_for(trouble, 30) == ENGINE_HUNG


async def test_a_process_that_loads_libraries_may_be_silent_until_they_are_there() -> None:
    watchdog = Watchdog(WatchdogLimits(silence_s=0.05, import_silence_s=60.0), start_timeout_s=60.0)
    watchdog.note(StepTaken("import", 0.0, None))
    trouble = asyncio.create_task(watchdog.trouble(lambda: True))

    done, _ = await asyncio.wait({trouble}, timeout=0.3)
    assert not done
    watchdog.note(StepTaken("import", 0.0, 1.0))

    assert await asyncio.wait_for(trouble, 30) == Cause(CauseKind.PROCESS_HUNG, {"seconds": 0.05})
