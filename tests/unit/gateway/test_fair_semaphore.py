"""Permits go round between tenants; waiting is bounded; no permit is lost."""

import asyncio

from libs.common.reasons import Reason
from services.gateway.errors import NotServed
from services.gateway.fair_semaphore import MAX_WAITING, MAX_WAITING_EACH, FairSemaphore
from tests.unit.gateway.reasons import not_served


def semaphore_of(num_permits: int, max_wait_s: float = 30.0) -> FairSemaphore:
    return FairSemaphore(
        num_permits,
        what="prompts are tokenized",
        reason=Reason.TOKENIZER_BUSY,
        max_wait_s=max_wait_s,
    )


class Order:
    """Notes who gets a permit, in which order; each releases it at once."""

    def __init__(self, semaphore: FairSemaphore) -> None:
        self.semaphore, self.taken = semaphore, list[str]()

    async def join(self, name: str) -> "asyncio.Task[None]":
        """`a2` is a request of tenant `a`. It waits when this returns."""
        task = asyncio.create_task(self._take(name))
        await asyncio.sleep(0)
        return task

    async def _take(self, name: str) -> None:
        await self.semaphore.acquire(name[0])
        self.taken.append(name)
        self.semaphore.release()


async def test_tenants_are_served_round_robin_and_each_in_order_of_arrival() -> None:
    order = Order(semaphore_of(1))
    await order.semaphore.acquire("x")
    waiting = [await order.join(name) for name in ("a1", "a2", "a3", "b1", "c1", "b2")]

    order.semaphore.release()
    await asyncio.gather(*waiting)

    assert order.taken == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_who_waits_too_long_is_told_when_to_come_again() -> None:
    semaphore = semaphore_of(1, max_wait_s=0.01)
    await semaphore.acquire("a")

    with not_served(Reason.TOKENIZER_BUSY, match="too many prompts are tokenized") as caught:
        await semaphore.acquire("b")

    assert caught.value.status == 429
    assert caught.value.headers == {"X-Hydra-Reason": "tokenizer_busy", "Retry-After": "2"}
    semaphore.release()
    await semaphore.acquire("b")


async def test_a_cancelled_waiter_takes_no_permit_with_it() -> None:
    order = Order(semaphore_of(1))
    await order.semaphore.acquire("x")
    early, late, last = [await order.join(name) for name in ("a1", "a2", "b1")]

    early.cancel()  # while it waits
    await asyncio.wait([early])
    order.semaphore.release()
    late.cancel()  # when it has just been given the permit
    await last

    assert order.taken == ["b1"]
    await asyncio.wait_for(order.semaphore.acquire("c"), 5)


async def test_a_tenants_queue_is_bounded_and_at_the_limit_the_longest_is_shortened() -> None:
    order = Order(semaphore_of(1))
    await order.semaphore.acquire("x")
    queues = {
        tenant: [await order.join(f"{tenant}{number}") for number in range(MAX_WAITING_EACH)]
        for tenant in "abcd"
    }
    assert 4 * MAX_WAITING_EACH == MAX_WAITING

    with not_served(Reason.TOKENIZER_BUSY):
        await order.semaphore.acquire("a")
    newcomer = await order.join("e1")
    order.semaphore.release()
    ended = [task for queue in queues.values() for task in queue]
    results = await asyncio.gather(newcomer, *ended, return_exceptions=True)

    assert [type(result) for result in results if result is not None] == [NotServed]
    assert isinstance(queues["a"][-1].exception(), NotServed)
    assert order.taken.index("e1") == 4
