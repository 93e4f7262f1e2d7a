"""A model's context is made longer while endpoints of the shorter one live."""

from tests.integration.scheduler.world import World

LENGTHEN = "UPDATE models SET max_context_tokens = NULL"


async def test_an_endpoint_with_too_short_a_context_makes_way_for_a_longer_one(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model(max_context_tokens=64)
    old = await world.start_endpoint(model_id)

    await world.execute(LENGTHEN)
    await world.until_state(old, "DRAINING")
    await world.gateway.submit(model_id, request_id="request-2")
    new = await world.assigned("request-2")
    await world.until_state(new, "STANDALONE")

    assert await world.endpoint_state(old) == "DRAINING", "its request still runs"
    assert await context_of(world, new) == 1024
    await world.finish("request-1")
    await world.until_state(old, "STOPPED")


async def test_a_start_with_too_short_a_context_is_given_up_for_another(world: World) -> None:
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = False
    model_id = await world.add_model(max_context_tokens=64)
    await world.gateway.submit(model_id, request_id="request-1")
    old = await world.assigned("request-1")

    await world.execute(LENGTHEN)
    await world.until_state(old, "STOPPED")
    node.behaviour.completes_fetches = True
    await world.gateway.resubmit(model_id, "request-1")
    new = await world.assigned("request-1")

    await world.until_state(new, "STANDALONE")
    assert await context_of(world, new) == 1024
    cause = await world.value("SELECT cause FROM cold_starts WHERE endpoint_id=:id", id=old)
    assert "context" in cause


async def test_a_shorter_context_leaves_living_endpoints_as_they_are(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)

    await world.execute("UPDATE models SET max_context_tokens = 64")
    await world.finish("request-1")
    await world.gateway.submit(model_id, request_id="request-2")

    assert await world.assigned("request-2") == endpoint_id


async def context_of(world: World, endpoint_id: str) -> int:
    return int(
        await world.value(
            "SELECT spec->'max_context_tokens' FROM workers WHERE endpoint_id=:id", id=endpoint_id
        )
    )
