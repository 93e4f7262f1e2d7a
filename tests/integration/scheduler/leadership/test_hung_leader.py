"""A leader that hangs instead of dying: found by the database's clock, deposed, and harmless."""

import asyncio

import asyncpg
import pytest

from libs.common.errors import DatabaseUnavailable
from libs.common.records.database import Database
from services.scheduler.errors import LeadershipLost
from services.scheduler.leadership.leadership import LEADER_LOCK, Candidate, Leadership
from services.scheduler.leadership.lock_holder import (
    NUM_LOOKS,
    LockHolder,
    lock_session_name,
    session_name,
)
from services.scheduler.store.fenced_transactions import FencedTransactions
from tests.integration.scheduler.leadership.test_leadership import lead
from tests.integration.servers import TestDatabase
from tests.support.waiting import eventually

SILENCE_S = 0.3


async def connect(database: TestDatabase) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(database.owner.url, password=database.owner.password)


async def named(
    database: TestDatabase, application_name: str
) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(
        database.owner.url,
        password=database.owner.password,
        server_settings={"application_name": application_name},
    )


async def standby_takes_over(database: TestDatabase) -> Leadership:
    standby = Candidate(database.owner, "scheduler-b", SILENCE_S)
    leadership = await eventually(standby.try_to_lead, poll_s=0.05, what="the takeover")
    assert isinstance(leadership, Leadership)
    return leadership


async def test_a_leader_without_a_sign_of_life_is_deposed_and_learns_it_when_it_goes_on(
    database: TestDatabase,
) -> None:
    hung = await lead(Candidate(database.owner, "scheduler-a"))

    next_ = await standby_takes_over(database)

    assert next_.epoch > hung.epoch
    with pytest.raises(LeadershipLost, match="in doubt"):
        await asyncio.wait_for(hung.watch(0.01), 10)
    await hung.release()
    await next_.release()


async def test_a_leader_that_shows_signs_of_life_keeps_the_lock(database: TestDatabase) -> None:
    leader = await lead(Candidate(database.owner, "scheduler-a"))
    watching = asyncio.create_task(leader.watch(0.02))
    standby = Candidate(database.owner, "scheduler-b", 1.0)

    loop = asyncio.get_running_loop()
    until_s = loop.time() + 1.5  # longer than the silence that would cost it the lock
    while loop.time() < until_s:
        assert await standby.try_to_lead() is None
        await asyncio.sleep(0.05)

    assert not watching.done()
    watching.cancel()
    standby.close()
    await leader.release()


async def test_a_transaction_that_the_hung_leader_left_open_does_not_hold_up_the_next_one(
    database: TestDatabase,
) -> None:
    hung = await lead(Candidate(database.owner, "scheduler-a"))
    name = {"application_name": session_name("scheduler-a")}
    pool = Database.open(database.owner, parameters=name)

    with pytest.raises(DatabaseUnavailable):
        async with FencedTransactions(pool, hung.epoch).transaction():
            next_ = await asyncio.wait_for(standby_takes_over(database), 10)

    with pytest.raises(LeadershipLost):
        async with FencedTransactions(pool, hung.epoch).transaction():
            raise AssertionError("the old epoch must not come so far")
    await next_.release()
    await hung.release()
    await pool.close()


async def test_the_sessions_that_end_are_the_holders_own_also_before_it_wrote_its_name(
    database: TestDatabase,
) -> None:
    last = await lead(Candidate(database.owner, "scheduler-b"))
    await last.release()
    hung = await named(database, lock_session_name("scheduler-a"))
    assert await hung.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK)
    its_own = await named(database, session_name("scheduler-a"))
    standbys = await named(database, session_name("scheduler-b"))

    next_ = await standby_takes_over(database)

    assert await standbys.fetchval("SELECT 1") == 1
    for connection in (hung, its_own):
        await eventually(connection.is_closed, what="its end")
    await standbys.close()
    await next_.release()


async def test_a_leader_of_another_database_is_left_alone(
    database: TestDatabase, empty_database: TestDatabase
) -> None:
    leader, holder = (
        await lead(Candidate(database.owner, "scheduler-a")),
        LockHolder(LEADER_LOCK, 0.0),
    )
    here, elsewhere = await connect(database), await connect(empty_database)

    assert [await holder.is_hung(elsewhere) for _ in range(NUM_LOOKS)] == [False] * NUM_LOOKS
    assert [await holder.is_hung(here) for _ in range(NUM_LOOKS)][-1]

    await here.close()
    await elsewhere.close()
    await leader.release()
