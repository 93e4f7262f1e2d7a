import asyncio

import pytest

from services.worker.agent.heartbeat_trigger import HeartbeatTrigger


async def test_load_that_changes_without_end_is_told_at_once_and_then_once_per_interval() -> None:
    trigger, loop = HeartbeatTrigger(load_interval_s=0.1), asyncio.get_running_loop()
    began_s, told_s = loop.time(), list[float]()

    while len(told_s) < 4:
        trigger.clear()
        trigger.note_load()
        await asyncio.wait_for(trigger.wait(), 5)
        told_s.append(loop.time() - began_s)

    assert told_s[0] < 0.1
    assert all(at_s >= 0.1 * number for number, at_s in enumerate(told_s))


async def test_what_somebody_waits_for_is_told_at_once() -> None:
    trigger = HeartbeatTrigger(load_interval_s=3600.0)
    trigger.note_load()
    await trigger.wait()
    trigger.clear()
    trigger.note_load()
    waiting = asyncio.create_task(trigger.wait())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.05)

    trigger.note()

    await asyncio.wait_for(waiting, 5)


async def test_what_was_told_is_no_news() -> None:
    trigger = HeartbeatTrigger()
    trigger.note()
    await trigger.wait()
    trigger.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(trigger.wait(), 0.05)
