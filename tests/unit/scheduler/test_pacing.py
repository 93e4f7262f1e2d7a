"""How many begin together, and who makes room."""

import asyncio
from functools import partial
from operator import eq as equals

from services.scheduler.rounds.pacing import Pace
from tests.support.waiting import eventually


async def test_no_more_than_so_many_work_at_once_in_the_order_in_which_they_came() -> None:
    pace, began, ends = Pace(2, 60.0), [], [asyncio.Event() for _ in range(4)]

    async def work(number: int) -> None:
        async with pace.turn():
            began.append(number)
            await ends[number].wait()

    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work(number)) for number in range(4)]
        for ended, expected in ((1, [0, 1]), (0, [0, 1, 2]), (2, [0, 1, 2, 3])):
            await eventually(partial(equals, began, expected))
            ends[ended].set()
            await working[ended]
        ends[3].set()


async def test_the_slow_make_room_and_are_counted_once() -> None:
    pace, stuck = Pace(1, 0.001), asyncio.Event()

    async def hang() -> None:
        async with pace.turn():
            await stuck.wait()

    hanging = [asyncio.create_task(hang()) for _ in range(3)]
    async with asyncio.timeout(30), pace.turn():
        pass
    stuck.set()
    await asyncio.gather(*hanging)
    assert pace._turns._value == 1


async def test_who_is_cancelled_makes_room_whether_or_not_it_had_begun() -> None:
    pace, stuck = Pace(1, 60.0), asyncio.Event()

    async def hang() -> None:
        async with pace.turn():
            await stuck.wait()

    begun, waiting = asyncio.create_task(hang()), asyncio.create_task(hang())
    await eventually(lambda: bool(pace._turns._waiters), what="the second one")
    waiting.cancel()
    begun.cancel()
    await asyncio.gather(begun, waiting, return_exceptions=True)
    async with asyncio.timeout(30), pace.turn():
        pass
