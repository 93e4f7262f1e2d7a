"""Sets with more members than a statement may have arguments (32,767)."""

from datetime import UTC, datetime

from sqlalchemy import text

from libs.common.bus.messages import Step
from libs.common.records.database import Database
from libs.common.states import RequestOutcome
from services.scheduler.store import nodes, requests
from services.scheduler.store.requests import Assignment
from services.scheduler.store.starts.steps import ActorStep, record_steps
from tests.integration.scheduler.world import World, digest
from tests.integration.servers import TestDatabase

NUM_IDS = 33_000
NUM_UNITS = 17_000  # each a row of two values
NUM_CACHED = "SELECT count(*) FROM host_cache"
COLD_START = """
WITH model AS (
    INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
        max_pipeline_size, max_queue, max_slots, max_endpoints)
    VALUES ('model-1', 't', 'm', '/m', 'READY', 1, 1, 1, 1, 1, 1, 1)
), endpoint AS (
    INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages)
    VALUES ('endpoint-1', 't', 'model-1', 1, 'STARTING', 1, 1)
)
INSERT INTO cold_starts (id, tenant, model_id, endpoint_id, weight_bytes)
VALUES ('start-1', 't', 'model-1', 'endpoint-1', 1)
"""


async def test_a_node_may_report_tens_of_thousands_of_units_and_lose_them_again(
    world: World,
) -> None:
    units = [digest(f"unit {i}") for i in range(NUM_UNITS)]
    node = await world.add_node("node-1")

    node.fetcher.cached.update(units)
    await world.until(NUM_CACHED, NUM_UNITS)
    node.fetcher.cached.difference_update(units[1:])
    await world.until(NUM_CACHED, 1)

    assert await world.value("SELECT encode(unit_digest, 'hex') FROM host_cache") == units[0]


async def test_a_new_leader_corrects_what_an_earlier_one_wrote(world: World) -> None:
    node = await world.add_node("node-1")
    node.fetcher.cached.update({digest("gone"), digest("kept")})
    await world.until(NUM_CACHED, 2)

    await world.leader.kill()
    node.fetcher.cached.remove(digest("gone"))
    await world.start_leader()

    await world.until(NUM_CACHED, 1)


async def test_any_number_of_requests_may_end_at_once(database: TestDatabase) -> None:
    store = Database.open(database.owner)
    async with store.transaction() as session:
        ids = [f"request-{i}" for i in range(NUM_IDS)]
        await requests.end(session, ids, RequestOutcome.DEADLINE, None)
        assert await requests.load_open(session, 0.0, model_ids=ids, request_ids=ids) == {}
        given = [Assignment(id_, 1, "endpoint-1", None) for id_ in ids]
        assert not await requests.assign(session, given)
        await nodes.bump_desired(session, ids)
    await store.close()


async def test_any_number_of_steps_may_be_heard_at_once(database: TestDatabase) -> None:
    store, now, num_steps = Database.open(database.owner), datetime.now(UTC), 5_000
    step = Step(name="load", started_at=now, ended_at=now)
    steps = [ActorStep("start-1", f"worker-{i}", None, None, step) for i in range(num_steps)]

    async with store.transaction() as session:
        await session.execute(text(COLD_START))
        for _ in range(2):
            await record_steps(session, [*steps, *steps[:1]])
        assert await session.scalar(text("SELECT count(*) FROM cold_start_steps")) == num_steps
    await store.close()
