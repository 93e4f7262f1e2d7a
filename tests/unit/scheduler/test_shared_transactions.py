"""Who shares the next transaction, and who gets which answer when it ends badly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from services.scheduler.errors import LeadershipLost
from services.scheduler.intake.shared_transactions import MAX_TOGETHER, SharedTransactions
from services.scheduler.observation.queued_requests import QueuedRequests
from services.scheduler.store.fenced_transactions import FencedTransactions, Lane

Work = Callable[..., Awaitable[str]]


@dataclass
class Transactions:
    """Each is a list of what was done in it."""

    epoch: int = 1
    done: list[list[str]] = field(default_factory=list)

    @asynccontextmanager
    async def transaction(self, _lane: Lane) -> AsyncIterator[None]:
        self.done.append([])
        yield

    def work(self, name: str) -> Work:
        async def work(*_: object) -> str:
            self.done[-1].append(name)
            return name

        return work


def shared_by(transactions: Transactions) -> SharedTransactions:
    return SharedTransactions(cast("FencedTransactions", transactions), QueuedRequests())


async def test_one_of_another_tenant_is_in_the_next_transaction_behind_2500() -> None:
    transactions = Transactions()
    shared = shared_by(transactions)
    names = [("acme", f"a{i:04}") for i in range(2500)] + [("other", "b")]

    await asyncio.gather(*(shared.run(who, name, transactions.work(name)) for who, name in names))

    first, *later = transactions.done
    assert first == [*(f"a{i:04}" for i in range(MAX_TOGETHER - 1)), "b"]
    assert [name for done in later for name in done] == [
        f"a{i:04}" for i in range(MAX_TOGETHER - 1, 2500)
    ]


async def test_a_cancellation_never_comes_before_its_submission() -> None:
    transactions = Transactions()
    shared = shared_by(transactions)
    asked = [("a", f"r{i:03}", "submit") for i in reversed(range(100))]
    asked += [("b", "s", "submit"), ("a", "r000", "cancel"), ("b", "s", "cancel")]

    await asyncio.gather(
        *(shared.run(who, name, transactions.work(f"{what} {name}")) for who, name, what in asked)
    )

    done = [name for each in transactions.done for name in each]
    assert len(done) == len(asked)
    assert done.index("submit r000") < done.index("cancel r000")
    assert done.index("submit s") < done.index("cancel s")


async def test_whoever_is_left_of_a_failed_transaction_is_let_go_with_the_leader() -> None:
    transactions, is_alone = Transactions(), asyncio.Event()
    shared = shared_by(transactions)

    async def fail(*_: object) -> str:
        raise ValueError("no column holds it")

    async def never_end_alone(*_: object) -> str:
        is_alone.set()
        return await asyncio.Event().wait() and ""

    works = {"a": fail, "b": never_end_alone, "c": transactions.work("c")}
    asking = [asyncio.create_task(shared.run("t", name, work)) for name, work in works.items()]
    await is_alone.wait()
    asking.append(asyncio.create_task(shared.run("t", "d", transactions.work("d"))))
    await asyncio.sleep(0)  # it waits when this returns

    await shared.close()

    async with asyncio.timeout(5):
        ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends] == [ValueError, *3 * [LeadershipLost]]
    assert [name for done in transactions.done for name in done] == []
