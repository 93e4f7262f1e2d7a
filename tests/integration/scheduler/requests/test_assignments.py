"""A gateway is told whether the endpoint that its request was given to starts or serves."""

from tests.integration.scheduler.world import World
from tests.support.waiting import eventually


async def test_an_assignment_says_whether_the_endpoint_starts(world: World) -> None:
    node = await world.add_node("node-1")
    node.behaviour.readies_workers = False
    model_id = await world.add_model(max_slots=2)
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    assert world.gateway.assigned["request-1"].is_starting
    node.behaviour.readies_workers = True
    await world.until_state(endpoint_id, "STANDALONE")

    again = await world.gateway.submit(model_id, request_id="request-1")
    await world.gateway.submit(model_id, request_id="request-2")
    await eventually(lambda: "request-2" in world.gateway.assigned)

    assert again.result.kind == "accepted" and again.result.assigned is not None
    assert again.result.assigned.is_same_as(world.gateway.assigned["request-1"])
    assert not again.result.assigned.is_starting
    assert not world.gateway.assigned["request-2"].is_starting
