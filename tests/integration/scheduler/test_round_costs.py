"""A round costs what has changed, however large the cluster is: counted in statements."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest_asyncio

from libs.common.bus.messages import DeviceObserved, EngineObserved
from libs.common.states import EngineKind
from tests.integration.scheduler.scale import NUM_DEVICES, QuietLeader, QuietNode, matching
from tests.integration.scheduler.world import World
from tests.integration.servers import TestDatabase

NUM_NODES = 1000
# No limit refuses it, and no column takes it in.
NO_DEVICE = DeviceObserved.model_construct(index=0, kind="\ud800", memory_bytes=1, cores=1)


@pytest_asyncio.fixture
async def leader(database: TestDatabase) -> AsyncIterator[QuietLeader]:
    world = World(database.owner)
    leader = await QuietLeader.begin(world)
    yield leader
    await leader.end()
    await world.close()


def cluster(num_nodes: int = NUM_NODES) -> list[QuietNode]:
    engines = (EngineObserved(engine=EngineKind.STAGE, launch_ms=2000, worker_bytes=2**30),)
    return [QuietNode(f"node-{i:04}", engines=engines) for i in range(num_nodes)]


def num_beside_host_caches(statements: Counter[str]) -> int:
    return sum(n for statement, n in statements.items() if "host_cache" not in statement)


async def test_a_new_leader_takes_in_a_thousand_nodes_with_a_few_statements(
    leader: QuietLeader,
) -> None:
    leader.hear(cluster())

    statements = await leader.round()

    assert num_beside_host_caches(statements) < 50, statements
    assert await leader.world.value("SELECT count(*) FROM gpus") == NUM_NODES * NUM_DEVICES
    assert await leader.world.value("SELECT count(*) FROM node_engines") == NUM_NODES
    assert leader.rounds.snapshot is not None
    assert len(leader.rounds.snapshot.devices) == NUM_NODES


async def test_nodes_that_say_nothing_new_cost_two_statements_every_few_seconds(
    leader: QuietLeader,
) -> None:
    nodes = cluster()
    leader.hear(nodes)
    await leader.round()
    await leader.told()
    leader.hear(nodes)
    await leader.round(1.0)
    written: list[int] = []

    for _ in range(10):
        leader.clock.advance(1.0)
        leader.hear(nodes)
        written.append(matching(await leader.round(), "UPDATE nodes", "INSERT INTO gpus"))

    assert sorted(written) == [0] * 8 + [2, 2]


async def test_what_is_wrong_with_one_node_costs_the_others_a_few_statements(
    leader: QuietLeader,
) -> None:
    nodes = cluster()
    refused = replace(nodes[417], node_id="node-refused", devices=(NO_DEVICE,))
    leader.hear([*nodes, refused])

    statements = await leader.round()

    assert num_beside_host_caches(statements) < 250, statements
    heard = "SELECT count(*) FROM nodes WHERE agent_boot_id IS NOT NULL"
    assert await leader.world.value(heard) == NUM_NODES
