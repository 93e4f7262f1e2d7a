"""The start mode to compare with: one worker, launched when its weights are there."""

from collections.abc import AsyncIterator

import pytest_asyncio

from libs.common.causes import Cause, CauseKind
from libs.common.startmode import StartMode
from libs.common.states import FetchState
from tests.integration.scheduler.simulated import SimulatedNode
from tests.integration.scheduler.world import World
from tests.integration.servers import TestDatabase
from tests.support.waiting import eventually

NUM_NODES = 3


@pytest_asyncio.fixture
async def world(database: TestDatabase) -> AsyncIterator[World]:
    """Three nodes whose fetches do not end by themselves, and a scheduler that starts in turn."""
    world = World(database.owner, mode=StartMode.SEQUENTIAL)
    await world.gateway.start()
    await world.start_leader()
    for index in range(NUM_NODES):
        node = await world.add_node(f"node-{index}")
        node.behaviour.completes_fetches = False
    await world.until("SELECT count(*) FROM gpus", NUM_NODES)
    yield world
    await world.close()


async def begun(world: World) -> SimulatedNode:
    """A request for a model that may have several stages; the node that fetches for it."""
    model_id = await world.add_model(max_pipeline_size=NUM_NODES)
    await world.gateway.submit(model_id, request_id="request-1")

    def find() -> SimulatedNode | None:
        return next((node for node in world.nodes.values() if node.fetcher.fetches), None)

    node = await eventually(find, what="a fetch")
    assert isinstance(node, SimulatedNode)
    return node


async def test_one_worker_is_launched_only_when_its_fetch_is_complete(world: World) -> None:
    node = await begun(world)
    await eventually(lambda: node.agent.accepted, what="the agent's desired state")
    assert node.agent.accepted is not None
    assert node.agent.accepted.fetches and not node.agent.accepted.workers
    assert "request-1" not in world.gateway.assigned

    node.behaviour.completes_fetches = True

    await world.until_state(await world.assigned("request-1"), "STANDALONE")
    (worker_id,) = node.agent.started
    assert await world.value("SELECT count(*) FROM workers") == 1
    assert await world.value("SELECT id FROM workers") == worker_id
    await world.until("SELECT count(*) FROM cold_start_steps WHERE name LIKE 'tell %%'", 2)


async def test_a_new_leader_launches_what_an_earlier_one_only_let_fetch(world: World) -> None:
    node = await begun(world)
    await world.leader.kill()
    node.behaviour.completes_fetches = True

    await world.start_leader()

    await world.until_state(await world.assigned("request-1"), "STANDALONE")
    assert len(node.agent.started) == 1


async def test_a_fetch_that_fails_ends_the_start_although_nothing_was_launched(
    world: World,
) -> None:
    node = await begun(world)
    (fetch_id,) = node.fetcher.fetches

    missing = Cause.of(CauseKind.UNIT_MISSING, key="units/ab")
    node.fetcher.change(fetch_id, state=FetchState.FAILED, cause=missing)

    await world.until("SELECT count(*) FROM endpoints WHERE cause LIKE '%no such object%'", 1)
    assert node.agent.started == []
    held = """
        SELECT count(*) FROM reservations JOIN fetches USING (worker_id) WHERE fetches.id = :id
    """
    await world.until(held, 0, id=fetch_id)
