"""Many tasks that end at once leave the loop to others in between."""

import asyncio
from itertools import pairwise

from services.gateway.generation.turns import Turns


async def test_tasks_go_on_in_order_and_others_have_the_loop_between_them() -> None:
    turns, done = Turns(), list[int]()

    async def end(number: int) -> None:
        await turns.take()
        done.append(number)

    ending = [asyncio.create_task(end(number)) for number in range(50)]
    counts = []
    while len(done) < 50:
        await asyncio.sleep(0)
        counts.append(len(done))
    await asyncio.wait(ending)

    assert done == list(range(50))
    assert max(after - before for before, after in pairwise(counts)) == 1


async def test_one_that_is_cancelled_while_it_waits_keeps_nobody_else() -> None:
    turns = Turns()
    waiting = [asyncio.create_task(turns.take()) for _ in range(3)]
    await asyncio.sleep(0)

    waiting[1].cancel()

    async with asyncio.timeout(5):
        await waiting[2]
