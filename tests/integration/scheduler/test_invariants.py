"""What the doctor reads of a real schema: nothing is broken, until a row is made so by hand."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from deploy.local.doctor.checks import find_broken
from deploy.local.doctor.promises import Promise
from deploy.local.doctor.reading_records import read_records, records_in
from deploy.local.doctor.values import StackState
from tests.integration.scheduler.world import World

_LATE = "now() - interval '1 minute'"
_FOLLOWER_ONLY = """
INSERT INTO endpoint_members
    (endpoint_id, generation, worker_id, role, stage_index, first_layer, last_layer, memory)
SELECT endpoint_id, 1, id, 'follower', 0, 0, 4, 'full' FROM workers
ON CONFLICT (endpoint_id, generation, worker_id) DO UPDATE SET role = 'follower'
"""
_LAYER_TOO_FEW = """
UPDATE workers SET spec = jsonb_set(spec, '{layers,last_layer}', '3')
"""
_USED = """
INSERT INTO usage (tenant, model_id, day, num_requests)
SELECT tenant, model_id, (now() AT TIME ZONE 'UTC')::date, 1 FROM requests
"""

POISON = [
    (Promise.REQUEST_ENDS, "UPDATE requests SET state = 'ENDED'"),
    (Promise.REQUEST_ENDS, f"UPDATE requests SET deadline_at = {_LATE}"),
    (Promise.ORPHANED_REQUEST_ENDS, f"UPDATE gateways SET heard_at = {_LATE}"),
    (Promise.USAGE_ONCE, _USED),
    (Promise.DEVICE_MEMORY, "UPDATE reservations SET device_bytes = 1000000000000"),
    (Promise.RESERVATION_OF_WORKER, "DELETE FROM reservations"),
    (Promise.RESERVATION_OF_WORKER, "UPDATE workers SET state = 'STOPPED', ended_at = now()"),
    (Promise.LAYERS_ONCE, "DELETE FROM endpoint_members; " + _LAYER_TOO_FEW),
    (Promise.LAYERS_ONCE, _FOLLOWER_ONLY),
    (Promise.ENDED_ENDPOINT, "UPDATE endpoints SET state = 'FAILED', ended_at = now()"),
    (Promise.ENDED_ENDPOINT, "UPDATE endpoints SET state = 'FAILED'"),
    (Promise.ONE_LEADER, "DELETE FROM leadership"),
    (Promise.VERSIONS, "UPDATE nodes SET agent_accepted_version = desired_version + 1"),
    (Promise.ENDED_WORKER, "UPDATE workers SET state = 'FAILED', ended_at = NULL"),
    (Promise.TENANTS, "UPDATE endpoints SET tenant = 'others'"),
]


async def broken_by(world: World, statements: str) -> set[Promise]:
    """Of what is true between these statements and their being undone."""
    async with AsyncSession(world.database.engine) as session:
        for statement in filter(None, statements.split("; ")):
            await session.execute(text(statement))
        records = await records_in(session)
        await session.rollback()
    assert records.workers and records.endpoints and records.devices and records.nodes
    return {found.promise for found in find_broken(StackState(records, nodes=()))}


async def test_a_served_request_breaks_no_promise_and_each_wrong_row_breaks_its_own(
    world: World,
) -> None:
    await world.add_node("node-1")
    await world.start_endpoint(await world.add_model())
    await world.until("SELECT count(*) FROM gateways", 1)
    await world.leader.kill()  # it would repair some of it

    assert await broken_by(world, "") == set()
    for promise, statements in POISON:
        assert promise in await broken_by(world, statements), statements
    assert await broken_by(world, "") == set()
    assert (await read_records(world.database)).num_leaderships == 1
