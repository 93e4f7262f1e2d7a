"""A round costs what has changed, however large the cluster is: counted in statements."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest_asyncio

from libs.common.bus.messages import DeviceObserved, EngineObserved
from libs.common.states import EngineKind
from services.scheduler.rounds.loop import MAX_READ_NODES
from tests.integration.scheduler.scale import DEVICES, NUM_DEVICES, QuietLeader, QuietNode, matching
from tests.integration.scheduler.world import World
from tests.integration.servers import TestDatabase
from tests.support.work import ExecutedLines

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
    boot_id = f"boot-{num_nodes}"  # another cluster of the same test has other processes
    return [QuietNode(f"node-{i:04}", boot_id, engines=engines) for i in range(num_nodes)]


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


async def settled(leader: QuietLeader, nodes: list[QuietNode]) -> None:
    """All nodes run what they shall, and the leader knows."""
    leader.hear(nodes)
    await leader.round()
    await leader.told()
    for _ in range(2):
        leader.hear(nodes)
        await leader.round(after_s=1.0)


async def lines_of_a_round_in_which_one_node_changes(
    leader: QuietLeader, num_nodes: int
) -> ExecutedLines:
    nodes = cluster(num_nodes)
    await settled(leader, nodes)
    nodes[0].devices = DEVICES[:-1]
    leader.hear(nodes[:1])

    with ExecutedLines("services/scheduler/") as lines:
        statements = await leader.round(after_s=0.125)

    assert matching(statements, "UPDATE gpus") == 1, "it is a round about that node"
    return lines


async def test_a_round_in_which_one_node_changes_costs_the_same_in_a_large_cluster(
    leader: QuietLeader,
) -> None:
    few = await lines_of_a_round_in_which_one_node_changes(leader, 10)
    many = await lines_of_a_round_in_which_one_node_changes(leader, NUM_NODES)

    assert many.count < 1.1 * few.count, many.most()


async def test_a_new_leader_reads_what_nodes_shall_run_in_parts(leader: QuietLeader) -> None:
    """A start of the first round is told with the first part, and everybody in the end."""
    nodes = cluster()
    leader.hear(nodes)

    statements = await leader.round()
    await leader.told()

    parts = matching(statements, "SELECT workers.node_id, workers.spec")
    assert parts == -(-NUM_NODES // MAX_READ_NODES)
    assert len(leader.accepted) == NUM_NODES
    leader.hear(nodes)
    assert matching(await leader.round(), "SELECT workers.node_id, workers.spec") == 0


async def statements_of_starts(leader: QuietLeader, num_models: int) -> Counter[str]:
    """Of the round that begins an endpoint for each of them, with what follows at once."""
    models = [await leader.world.add_model(f"of-{num_models}-{i}") for i in range(num_models)]
    await leader.world.execute(
        "INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state,"
        " num_prompt_tokens, max_tokens, deadline_at)"
        " SELECT 'request-of-' || id, 'default', id, 'gateway-1', 1, 'QUEUED', 1, 1,"
        " now() + interval '1 hour' FROM models WHERE id = ANY(CAST(:models AS text[]))",
        models=models,
    )
    leader.hear_gateway("gateway-1")
    leader.rounds.changes.models.update(models)

    statements = await leader.round(after_s=0.125)

    begun = "SELECT count(*) FROM endpoints WHERE model_id = ANY(CAST(:models AS text[]))"
    assert await leader.world.value(begun, models=models) == num_models
    assigned = "SELECT count(*) FROM requests WHERE state = 'ASSIGNED' AND model_id = ANY(:models)"
    assert await leader.world.value(assigned, models=models) == num_models
    await leader.told()
    return statements


async def test_a_hundred_starts_take_hardly_more_statements_than_one(leader: QuietLeader) -> None:
    nodes = cluster(50)
    await settled(leader, nodes)
    one = await statements_of_starts(leader, 1)
    await settled(leader, nodes)

    hundred = await statements_of_starts(leader, 100)

    assert hundred.total() <= one.total() + 5, hundred - one
    assert one.total() < 50, one
