"""Nodes silent for long are forgotten, in rows and in memory; one that comes back is new."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from services.scheduler.node_retention import BATCH_UNITS, NodeRetention
from services.scheduler.settings import DAY_S
from tests.integration.scheduler.world import QUICK, World
from tests.integration.servers import TestDatabase
from tests.support.waiting import eventually

RETENTION_S = 7 * DAY_S
TABLES = ("nodes", "gpus", "node_engines", "host_cache", "reservations")
AGE = (
    "UPDATE nodes SET agent_heard_at = now() - make_interval(hours => :hours),"
    " fetcher_heard_at = now() - make_interval(hours => :hours) WHERE id = :id"
)


@pytest_asyncio.fixture
async def world(database: TestDatabase) -> AsyncIterator[World]:
    """Whose nodes count as silent at once."""
    world = World(database.owner, replace(QUICK, node_retention_s=0.0))
    await world.gateway.start()
    await world.start_leader()
    yield world
    await world.close()


def retention_of(world: World, **changes: Any) -> NodeRetention:
    rounds = world.leader.controller.rounds
    retention = NodeRetention(rounds, RETENTION_S, pause_s=0.0, min_listening_s=0.3)
    return replace(retention, **changes)


async def silenced(world: World, node_id: str, hours: int) -> None:
    """It was heard last so long ago."""
    world.nodes[node_id].behaviour.is_silent = True
    log = world.leader.controller.log
    await eventually(lambda: log.node_silence_s(node_id) > 1.5, what="its silence")
    await world.execute(AGE, id=node_id, hours=hours)


async def known(world: World, node_id: str) -> set[str]:
    """Tables that have anything of the node."""
    found = set()
    for table in TABLES:
        column = "id" if table == "nodes" else "node_id"
        if await world.value(f"SELECT count(*) FROM {table} WHERE {column} = :id", id=node_id):
            found.add(table)
    return found


async def test_a_node_silent_for_a_week_goes_with_its_rows_and_its_history_stays(
    world: World,
) -> None:
    dead = await world.add_node("dead")
    model_id = await world.add_model()
    await world.start_endpoint(model_id)
    await world.until("SELECT count(*) > 0 FROM host_cache WHERE node_id = 'dead'", True)
    await world.add_node("live")
    await silenced(world, "dead", 8 * 24)
    await world.until("SELECT count(*) FROM reservations WHERE node_id = 'dead'", 0)

    await retention_of(world).work()

    assert await known(world, "dead") == set()
    assert "nodes" in await known(world, "live")
    assert await world.value("SELECT count(*) FROM workers WHERE node_id = 'dead'") == 1
    rounds = world.leader.controller.rounds
    assert rounds.snapshot is not None and "dead" not in rounds.snapshot.nodes
    assert "dead" not in rounds.snapshot.devices
    assert rounds.log.agents.of("dead") is None

    dead.behaviour.is_silent = False
    await world.until("SELECT count(*) FROM gpus WHERE node_id = 'dead'", 1)
    await world.until("SELECT count(*) > 0 FROM host_cache WHERE node_id = 'dead'", True)


@pytest.mark.parametrize(
    ("hours", "expected", "why"),
    [
        (6 * 24, {"nodes", "gpus"}, "after a day nobody counts on what its memory held"),
        (20, {"nodes", "gpus", "host_cache"}, "it may be back in a moment"),
    ],
)
async def test_what_is_forgotten_of_a_silent_node_follows_from_its_silence(
    world: World, hours: int, expected: set[str], why: str
) -> None:
    node = await world.add_node("node-1")
    await world.until("SELECT count(*) FROM gpus", 1)
    await silenced(world, "node-1", hours)
    await add_units(world, "node-1", BATCH_UNITS + 1)

    await retention_of(world).work()

    assert await known(world, "node-1") == expected, why
    assert node.behaviour.is_silent


async def test_a_node_that_this_leader_hears_stays_whatever_its_row_says(world: World) -> None:
    """A leader that was away for a week has yet to write that everybody speaks."""
    await world.add_node("node-1")
    await world.until("SELECT count(*) FROM gpus", 1)
    await world.execute(AGE, id="node-1", hours=8 * 24)

    await retention_of(world).work()

    assert await known(world, "node-1") >= {"nodes", "gpus"}


async def test_a_leader_that_has_just_begun_forgets_nobody(world: World) -> None:
    await world.add_node("node-1")
    await world.until("SELECT count(*) FROM gpus", 1)
    await silenced(world, "node-1", 8 * 24)

    await retention_of(world, min_listening_s=1e6).work()
    await retention_of(world, retention_s=0.0).work()

    assert await known(world, "node-1") >= {"nodes", "gpus"}


async def test_a_node_stays_while_anything_is_reserved_there(world: World) -> None:
    await world.execute(
        "INSERT INTO nodes (id, agent_heard_at, fetcher_heard_at)"
        " VALUES ('node-1', now() - interval '8 days', now() - interval '8 days')"
    )
    model_id = await world.add_model()
    await world.execute(
        "INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages)"
        " VALUES ('e', 't', :model_id, 1, 'STOPPED', 1, 1)",
        model_id=model_id,
    )
    await world.execute(
        "INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec)"
        " VALUES ('w', 'e', 'node-1', 0, 0, 'STOPPED', '{}')"
    )
    await world.execute("INSERT INTO reservations VALUES ('w', 'node-1', 0, 1)")
    await world.add_node("live")
    listened = world.leader.controller.log.liveness
    await eventually(lambda: listened.heard_for_s > 0.5, what="time to listen")

    await retention_of(world).work()
    assert "nodes" in await known(world, "node-1")

    await world.execute("DELETE FROM reservations")
    await world.execute("UPDATE workers SET is_desired = false")
    await retention_of(world).work()
    assert await known(world, "node-1") == set()


async def add_units(world: World, node_id: str, num: int) -> None:
    await world.execute(
        "INSERT INTO host_cache (node_id, unit_digest)"
        " SELECT :id, sha256(i::text::bytea) FROM generate_series(1, :num) AS i",
        id=node_id,
        num=num,
    )
