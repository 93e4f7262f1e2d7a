"""Turns go round between tenants, are bounded, and are never lost."""

import asyncio

import pytest

from services.gateway.errors import Overloaded
from services.gateway.fair_turns import MAX_WAITING, MAX_WAITING_EACH, Turns


def turns_of(num_turns: int, patience_s: float = 30.0) -> Turns:
    return Turns(num_turns, what="prompts are tokenized", code="busy", patience_s=patience_s)


class Order:
    """Notes who takes a turn, in which order; each gives it back at once."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.taken = turns, list[str]()

    async def join(self, name: str) -> "asyncio.Task[None]":
        """`a2` is a request of tenant `a`. It waits when this returns."""
        task = asyncio.create_task(self._take(name))
        await asyncio.sleep(0)
        return task

    async def _take(self, name: str) -> None:
        await self.turns.take(name[0])
        self.taken.append(name)
        self.turns.give_back()


async def test_tenants_take_turns_in_rotation_and_each_in_order_of_arrival() -> None:
    order = Order(turns_of(1))
    await order.turns.take("x")
    waiting = [await order.join(name) for name in ("a1", "a2", "a3", "b1", "c1", "b2")]

    order.turns.give_back()
    await asyncio.gather(*waiting)

    assert order.taken == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_who_waits_too_long_is_told_when_to_come_again() -> None:
    turns = turns_of(1, patience_s=0.01)
    await turns.take("a")

    with pytest.raises(Overloaded, match="too many prompts are tokenized") as caught:
        await turns.take("b")

    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "2"})
    turns.give_back()
    await turns.take("b")


async def test_who_leaves_takes_nobodys_turn_with_it() -> None:
    order = Order(turns_of(1))
    await order.turns.take("x")
    early, late, last = [await order.join(name) for name in ("a1", "a2", "b1")]

    early.cancel()  # while it waits
    await asyncio.wait([early])
    order.turns.give_back()
    late.cancel()  # when it has just been given the turn
    await last

    assert order.taken == ["b1"]
    await asyncio.wait_for(order.turns.take("c"), 5)


async def test_a_tenants_crowd_is_bounded_and_in_a_full_house_the_largest_makes_room() -> None:
    order = Order(turns_of(1))
    await order.turns.take("x")
    crowds = {
        tenant: [await order.join(f"{tenant}{number}") for number in range(MAX_WAITING_EACH)]
        for tenant in "abcd"
    }
    assert 4 * MAX_WAITING_EACH == MAX_WAITING

    with pytest.raises(Overloaded):
        await order.turns.take("a")
    newcomer = await order.join("e1")
    order.turns.give_back()
    ended = [task for crowd in crowds.values() for task in crowd]
    results = await asyncio.gather(newcomer, *ended, return_exceptions=True)

    assert [type(result) for result in results if result is not None] == [Overloaded]
    assert isinstance(crowds["a"][-1].exception(), Overloaded)
    assert order.taken.index("e1") == 4
