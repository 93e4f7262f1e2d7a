"""Device memory x time: every moment of every reservation counts once, in the right phase and hour.

What rows say is set up and counted in one transaction, in which the database's clock stands still.
"""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.causes import Cause, CauseKind
from libs.common.records.database import Database
from services.scheduler.store import endpoints, workers
from services.scheduler.store.accounting import memory_accounts
from tests.integration.scheduler.world import World
from tests.integration.servers import TestDatabase
from tests.support.waiting import eventually

PHASES = "starting_byte_s, busy_byte_s, idle_byte_s"
SUMS = "sum(starting_byte_s), sum(busy_byte_s), sum(idle_byte_s)"
_SCENE = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints)
VALUES ('model-1', 't', 'm', '/m', 'READY', 1, 1, 1, 1, 1, 1, 1);
INSERT INTO nodes (id) VALUES ('node-1');
INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages)
VALUES ('ep-1', 't', 'model-1', 1, 'STANDALONE', 1, 1);
INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec)
SELECT 'worker-' || i, 'ep-1', 'node-1', 0, i, 'READY', '{}' FROM generate_series(1, 2) i
"""


@pytest_asyncio.fixture
async def store(database: TestDatabase) -> AsyncIterator[Database]:
    store = Database.open(database.owner)
    async with store.transaction() as session:
        for statement in _SCENE.split(";"):
            await session.execute(text(statement))
    yield store
    await store.close()


async def reserve(session: AsyncSession, worker: str, num_bytes: int, since: str) -> None:
    await run(
        session,
        "INSERT INTO reservations (worker_id, node_id, device_index, device_bytes, counted_until)"
        f" VALUES ('{worker}', 'node-1', 0, {num_bytes}, {since})",
    )


async def run(session: AsyncSession, sql: str) -> Any:
    return await session.execute(text(sql))


async def counted(session: AsyncSession, source: str) -> tuple[Decimal | int, ...]:
    """Byte-seconds that were starting, busy and idle."""
    return tuple((await run(session, f"SELECT {SUMS} FROM {source}")).one())


def about(*byte_s: int) -> Any:
    """These byte-seconds as counted: where an hour ends in between, the idle time of each hour is
    rounded to a microsecond, and busy is the rest."""
    return pytest.approx(tuple(byte_s), abs=1e-3)


def ago(seconds: int) -> str:
    return f"now() - interval '{seconds} seconds'"


async def test_what_a_worker_held_is_counted_as_starting_busy_and_idle_when_it_ends(
    store: Database,
) -> None:
    """100 s: 30 until ready, then 70, of which 10 + 20 were idle and 40 busy; 7 bytes."""
    async with store.transaction() as session:
        await reserve(session, "worker-1", 7, ago(100))
        await run(
            session,
            f"UPDATE endpoints SET ready_at = {ago(70)}, idle_s = 10, idle_since = {ago(20)}",
        )

        await workers.end_workers(session, {"worker-1": None})

        assert await counted(session, "endpoints") == about(210, 280, 210)
        assert await counted(session, "memory_hours") == about(210, 280, 210)
        assert await session.scalar(text("SELECT count(*) FROM reservations")) == 0


async def test_an_end_that_is_decided_again_counts_nothing_again(store: Database) -> None:
    async with store.transaction() as session:
        await reserve(session, "worker-1", 7, ago(100))
        await workers.end_workers(session, {"worker-1": None})
    for cause in (None, Cause(CauseKind.NOBODY_WAITED)):
        async with store.transaction() as session:
            await workers.end_workers(session, {"worker-1": cause, "worker-2": cause})

    async with store.transaction() as session:
        assert await counted(session, "endpoints") == (700, 0, 0)
        assert await counted(session, "memory_hours") == (700, 0, 0)


async def test_workers_of_one_endpoint_count_each_for_its_own_time(store: Database) -> None:
    """Ready 50 s ago and busy since then. One: 5 bytes for 20 + 50 s; the other one came when it
    served already: 11 bytes for 30 s."""
    async with store.transaction() as session:
        await run(session, f"UPDATE endpoints SET ready_at = {ago(50)}")
        await reserve(session, "worker-1", 5, ago(70))
        await reserve(session, "worker-2", 11, ago(30))

        await workers.end_workers(session, {"worker-1": None, "worker-2": None})

        assert await counted(session, "endpoints") == (5 * 20, 5 * 50 + 11 * 30, 0)


async def test_time_is_counted_in_the_hours_in_which_it_was(store: Database) -> None:
    """From half an hour before this hour on, ready after 20 of these 30 minutes, busy since."""
    hour = "date_trunc('hour', now(), 'UTC')"
    async with store.transaction() as session:
        await reserve(session, "worker-1", 3, f"{hour} - interval '30 minutes'")
        await run(session, f"UPDATE endpoints SET ready_at = {hour} - interval '10 minutes'")

        await workers.end_workers(session, {"worker-1": None})

        before = f"memory_hours WHERE hour = {hour} - interval '1 hour'"
        assert await counted(session, before) == (3 * 1200, 3 * 600, 0)
        this_hour_s = await session.scalar(text(f"SELECT extract(epoch FROM now() - {hour})"))
        row = (await run(session, f"SELECT {PHASES} FROM memory_hours WHERE hour = {hour}")).one()
        assert tuple(row) == (0, 3 * this_hour_s, 0)
        whole = (await run(session, f"SELECT {PHASES} FROM endpoints")).one()
        assert tuple(whole) == (3 * 1200, 3 * (600 + this_hour_s), 0)


async def test_who_goes_on_living_is_counted_once_an_hour_and_loses_nothing(
    store: Database,
) -> None:
    """Two hours and a bit, ready after 600 s, idle for the last 100 s. That is shared out between
    three hours, in parts that are rounded to microseconds; the sum is exact."""
    hour = "date_trunc('hour', now(), 'UTC')"
    since = f"{hour} - interval '2 hours'"
    async with store.transaction() as session:
        await reserve(session, "worker-1", 2, since)
        await reserve(session, "worker-2", 2, "now()")
        await run(
            session,
            f"UPDATE endpoints SET ready_at = {since} + interval '600 seconds',"
            f" idle_since = {ago(100)}",
        )

        assert not await memory_accounts.count_ended_hours(session, 10)
        first = await counted(session, "endpoints")
        assert not await memory_accounts.count_ended_hours(session, 10)
        await workers.end_workers(session, {"worker-1": None})

        length_s = await session.scalar(text(f"SELECT extract(epoch FROM now() - ({since}))"))
        assert length_s is not None
        assert first[0] == 1200 and sum(first) == 2 * length_s
        assert first[2] == pytest.approx(200, abs=1e-5)
        assert await counted(session, "endpoints") == first
        assert await session.scalar(text("SELECT count(*) FROM memory_hours")) == 3


async def test_hours_are_counted_a_part_of_the_fleet_at_a_time(store: Database) -> None:
    async with store.transaction() as session:
        await reserve(session, "worker-1", 1, "now() - interval '3 hours'")
        await reserve(session, "worker-2", 1, "now() - interval '2 hours'")

        assert await memory_accounts.count_ended_hours(session, 1)
        assert await counted(session, "endpoints") == (3 * 3600, 0, 0)
        assert not await memory_accounts.count_ended_hours(session, 1)
        assert await counted(session, "endpoints") == (5 * 3600, 0, 0)


async def test_a_reservation_that_shrinks_counts_with_what_it_was_until_then(
    store: Database,
) -> None:
    """10 bytes for 60 s, then 4 for 40 s; idle 30 s of the first part, all of the second."""
    async with store.transaction() as session:
        await run(session, f"UPDATE endpoints SET ready_at = {ago(200)}, idle_since = {ago(30)}")
        await reserve(session, "worker-1", 10, ago(60))
        await memory_accounts.count_held(session, ["worker-1"])
        await run(session, "UPDATE reservations SET device_bytes = 4")
        # As if 40 s had gone by since.
        for table, column in (("reservations", "counted_until"), ("endpoints", "idle_since")):
            await run(session, f"UPDATE {table} SET {column} = {column} - interval '40 seconds'")
        assert await counted(session, "endpoints") == about(0, 300, 300)

        await workers.end_workers(session, {"worker-1": None})

        assert await counted(session, "endpoints") == about(0, 300, 300 + 160)


async def test_idle_time_is_kept_when_an_endpoint_becomes_busy_and_idle_again(
    store: Database,
) -> None:
    """Idle from 90 to 50 s ago, as far as anybody saw busy until 20 s ago, idle since; of a short
    request only the end was heard, 5 s ago."""
    async with store.transaction() as session:
        await run(session, f"UPDATE endpoints SET ready_at = {ago(90)}, idle_since = {ago(40)}")
        await endpoints.set_busy(session, ["ep-1"])
        await endpoints.set_busy(session, ["ep-1"])  # decided again
        assert await session.scalar(text("SELECT idle_s FROM endpoints")) == 40
        await run(session, f"UPDATE endpoints SET busy_at = {ago(50)}")
        await endpoints.set_idle(session, {"ep-1": 20.0})
        await endpoints.set_idle(session, {"ep-1": 5.0})
        assert await session.scalar(text("SELECT idle_s FROM endpoints")) == 40 + 15

        await reserve(session, "worker-1", 1, ago(90))
        await workers.end_workers(session, {"worker-1": None})

        assert await counted(session, "endpoints") == (0, 30, 60)


async def test_idle_time_begins_after_it_was_busy_whatever_its_worker_says(
    store: Database,
) -> None:
    """Ready 100 s ago, idle for 60 s, and busy 40 s ago with a request that never came to its
    worker: that says, 10 s later, that it has been idle since 105 s ago. Idle are 60 + 40 s."""
    async with store.transaction() as session:
        await run(session, f"UPDATE endpoints SET ready_at = {ago(100)}, idle_since = {ago(60)}")
        await endpoints.set_busy(session, ["ep-1"])
        await run(session, f"UPDATE endpoints SET busy_at = {ago(40)}")
        await endpoints.set_idle(session, {"ep-1": 105.0})
        age = await session.scalar(text("SELECT now() - idle_since = '105 s' FROM endpoints"))
        await endpoints.set_busy(session, ["ep-1"])

        assert age, "keep-alive counts from what its worker says"
        assert await session.scalar(text("SELECT idle_s FROM endpoints")) == 60 + 40


async def test_one_is_not_idle_before_it_serves(store: Database) -> None:
    async with store.transaction() as session:
        await run(session, f"UPDATE endpoints SET ready_at = {ago(30)}")
        await endpoints.set_idle(session, {"ep-1": 50.0})
        await endpoints.set_busy(session, ["ep-1"])

        assert await session.scalar(text("SELECT idle_s FROM endpoints")) == 30


async def test_idle_time_is_never_more_than_there_was(store: Database) -> None:
    """News of idleness are older than the last count: what was counted as busy stays so."""
    async with store.transaction() as session:
        await run(session, f"UPDATE endpoints SET ready_at = {ago(90)}")
        await reserve(session, "worker-1", 1, ago(90))
        await memory_accounts.count_held(session, ["worker-1"])
        await endpoints.set_idle(session, {"ep-1": 3.0})
        await workers.end_workers(session, {"worker-1": None})

        assert await counted(session, "endpoints") == (0, 90, 0)


HELD = """
SELECT sum((spec ->> 'device_bytes')::bigint * extract(epoch FROM ended_at - created_at))
FROM workers WHERE endpoint_id = :id
"""
COUNTED = "SELECT starting_byte_s + busy_byte_s + idle_byte_s FROM endpoints WHERE id = :id"


async def phases(world: World, endpoint_id: str) -> tuple[Decimal, ...]:
    return tuple(
        (await world.rows(f"SELECT {PHASES} FROM endpoints WHERE id = '{endpoint_id}'"))[0]
    )


async def test_an_endpoint_is_charged_for_all_its_workers_to_the_microsecond(world: World) -> None:
    for number in range(2):
        await world.add_node(f"node-{number}")
    model_id = await world.add_model(max_pipeline_size=2, keep_alive_s=0.3)
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await world.until_state(endpoint_id, "PIPELINED")
    await world.finish("request-1")
    await world.until_state(endpoint_id, "STOPPED")

    assert await world.value(COUNTED, id=endpoint_id) == await world.value(HELD, id=endpoint_id)
    starting, _, idle = await phases(world, endpoint_id)
    assert starting > 0 and idle > 0  # a simulated worker says that it was idle since it was ready
    hours = await world.rows(f"SELECT tenant, model_id, {SUMS} FROM memory_hours GROUP BY 1, 2")
    assert [tuple(row) for row in hours] == [
        ("tenant-1", model_id, *await phases(world, endpoint_id))
    ]


async def test_a_worker_that_ends_while_the_leader_changes_counts_once(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model(keep_alive_s=0.2)
    endpoint_id = await world.start_endpoint(model_id)
    await world.restart_leader()
    await world.finish("request-1")
    await world.until_state(endpoint_id, "DRAINING", "STOPPED")
    await world.restart_leader()
    await world.until_state(endpoint_id, "STOPPED")
    await world.restart_leader()

    async def is_settled() -> bool:
        return bool(await world.value("SELECT count(*) FROM reservations") == 0)

    await eventually(is_settled, what="the end of the reservation")
    assert await world.value(COUNTED, id=endpoint_id) == await world.value(HELD, id=endpoint_id)


async def test_a_start_that_fails_is_starting_time_alone(world: World) -> None:
    node = await world.add_node("node-1")
    node.behaviour.fails_workers = Cause.of(CauseKind.PROCESS_EXITED, code=1)
    await world.gateway.submit(await world.add_model(), request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await world.until_state(endpoint_id, "FAILED")

    async def is_settled() -> bool:
        held = "SELECT count(*) FROM reservations JOIN workers ON id = worker_id"
        return bool(await world.value(f"{held} WHERE endpoint_id = :id", id=endpoint_id) == 0)

    await eventually(is_settled, what="the end of the reservation")
    starting, busy, idle = await phases(world, endpoint_id)
    assert starting == await world.value(HELD, id=endpoint_id) > 0
    assert busy == idle == 0
