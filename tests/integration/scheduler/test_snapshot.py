"""What a leader keeps in memory is what a new one would read: decisions and rows say the same."""

import random
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.clock import SystemClock
from libs.common.startmode import StartMode
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.rounds.reader import SnapshotReader
from tests.integration.scheduler.failures.test_random import Client, survive
from tests.integration.scheduler.world import MODEL_BYTES, World
from tests.support.waiting import eventually

NUM_ROUNDS = 8


async def _rows(world: World) -> Snapshot:
    reader, now_s = SnapshotReader(world.timing, StartMode.HYDRA), SystemClock().monotonic_s()
    async with world.database.transaction() as session:
        return await reader.load(session, now_s)


def _endpoints(snapshot: Snapshot) -> dict[str, Endpoint]:
    """Clocks differ, and which units a fetch of old had is not asked for again."""
    return {e.id: replace(e, idle_since_s=None, ready_since_s=None) for e in snapshot.endpoints}


async def _is_the_same(world: World) -> bool:
    known = world.leader.controller.rounds.snapshot
    rows = await _rows(world)
    if known is None or known is not world.leader.controller.rounds.snapshot:
        return False  # a round went by meanwhile
    return (
        _endpoints(known) == _endpoints(rows)
        and dict(known.nodes) == dict(rows.nodes)
        and dict(known.devices) == dict(rows.devices)
        and {f.endpoint_id: f.cause for f in known.failures}
        == {f.endpoint_id: f.cause for f in rows.failures}
    )


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_leaders_snapshot_and_the_rows_agree_through_starts_and_failures(
    world: World, seed: int
) -> None:
    rng = random.Random(seed)
    for i in range(3):
        await world.add_node(f"node-{i}", memory_bytes=2 * MODEL_BYTES)
    models = [
        await world.add_model(f"m{i}", keep_alive_s=0.3, max_pipeline_size=1 + 2 * (i % 2))
        for i in range(3)
    ]
    for index in range(NUM_ROUNDS):
        client = Client(world, rng.choice(models), f"request-{index}")
        if rng.random() < 0.4:
            rng.choice(list(world.nodes.values())).agent.restart()
        await client.run()

        await eventually(lambda: _is_the_same(world), what="the snapshot as the rows are")


async def test_requests_that_a_new_leader_finds_are_no_arrivals_and_later_ones_are(
    world: World,
) -> None:
    model_id = await world.add_model(max_endpoints=2)
    reader, now_s = SnapshotReader(world.timing, StartMode.HYDRA), SystemClock().monotonic_s()

    async def swept(session: AsyncSession, before: Snapshot) -> Snapshot:
        return await reader.refresh(session, before, Observed(), now_s, ChangeLog(), is_sweep=True)

    await world.gateway.submit(model_id, request_id="request-1")
    async with world.database.transaction() as session:
        found = await swept(session, await reader.load(session, now_s))
    await world.gateway.submit(model_id, request_id="request-2")
    async with world.database.transaction() as session:
        later = await swept(session, found)

    assert len(found.requests) == 1 and not found.traffic
    assert [c.num_arrivals for c in later.traffic[model_id].arrivals.counts] == [1]


@pytest.mark.long
@pytest.mark.parametrize("seed", [31, 32, 33])
async def test_they_agree_after_random_deaths(world: World, seed: int) -> None:
    await survive(world, seed, num_requests=20)

    await eventually(lambda: _is_the_same(world), what="the snapshot as the rows are")
