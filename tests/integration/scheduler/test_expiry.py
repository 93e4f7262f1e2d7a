"""Requests that nobody else would end."""

from tests.integration.scheduler.simulated import SimulatedGateway
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually


async def test_a_waiting_request_ends_at_its_deadline_and_names_the_models_trouble(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    node.behaviour.fails_workers = "no such library"
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1", remaining_ms=60_000)
    await world.until("SELECT num_failed_starts FROM models", 3)
    await world.gateway.resubmit(model_id, "request-1")

    await world.execute("UPDATE requests SET deadline_at = now()")

    await eventually(lambda: "request-1" in world.gateway.refused)
    assert world.gateway.refused["request-1"].code == "deadline"
    assert "no such library" in world.gateway.refused["request-1"].message
    assert await world.value("SELECT outcome FROM requests") == "deadline"


async def test_the_requests_of_a_silent_gateway_end_and_those_of_another_do_not(
    world: World,
) -> None:
    other = SimulatedGateway("gateway-2", world.broker.bus())
    await other.start()
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="mine")
    await other.submit(model_id, request_id="theirs")

    other.is_silent = True

    await world.until("SELECT outcome FROM requests WHERE id='theirs'", "gateway_lost")
    assert await world.value("SELECT state FROM requests WHERE id='mine'") == "QUEUED"
    await other.stop()


async def test_a_request_its_gateway_no_longer_lists_ends(world: World) -> None:
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="forgotten")
    await world.gateway.submit(model_id, request_id="remembered")

    world.gateway.open_ids.discard("forgotten")

    await world.until("SELECT outcome FROM requests WHERE id='forgotten'", "gateway_lost")
    assert await world.value("SELECT state FROM requests WHERE id='remembered'") == "QUEUED"


async def test_a_new_leader_gives_gateways_time_to_be_heard(world: World) -> None:
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")

    await world.restart_leader()
    await world.gateway.submit(model_id, request_id="request-2")

    assert await world.value("SELECT count(*) FROM requests WHERE state='QUEUED'") == 2
