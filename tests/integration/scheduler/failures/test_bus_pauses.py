"""A bus that is silent for everybody: nobody has died of it."""

import asyncio

from tests.integration.scheduler.world import World
from tests.support.waiting import eventually


async def heard_again(world: World) -> None:
    agent = world.nodes["node-1"].agent
    before = agent.sequence
    await eventually(lambda: agent.sequence > before + 3, what="new heartbeats")


async def test_a_frozen_bus_is_nobodys_death_and_no_new_attempt(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)

    for _ in range(2):
        world.broker.freeze()
        await asyncio.sleep(3 * world.timing.node_lost_s)  # the freeze itself
        world.broker.thaw()
        await heard_again(world)

    assert await world.endpoint_state(endpoint_id) == "STANDALONE"
    (row,) = await world.rows("SELECT state, attempt, endpoint_id FROM requests")
    assert tuple(row) == ("ASSIGNED", 1, endpoint_id)


async def test_a_model_that_was_asked_for_before_a_freeze_starts_right_after_it(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    node.behaviour.completes_fetches = False
    await world.gateway.submit(model_id, request_id="request-1")
    first = await world.assigned("request-1")

    world.broker.freeze()
    await asyncio.sleep(3 * world.timing.node_lost_s)  # the freeze itself
    world.broker.thaw()
    node.behaviour.completes_fetches = True

    await world.until_state(first, "STANDALONE")
    assert world.gateway.refused == {}
