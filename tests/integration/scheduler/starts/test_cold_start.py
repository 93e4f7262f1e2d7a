"""From a request for a cold model to an endpoint that serves, and back to nothing."""

from libs.common.bus.messages import SubmitAccepted, SubmitRefused
from libs.common.clock import SystemClock
from libs.common.states import FetchClass, FetchPurpose
from services.gateway.routing.route_loader import RouteLoader
from services.gateway.routing.route_table import RouteTable
from services.gateway.settings import Timing
from tests.integration.scheduler.world import KV_BYTES, MODEL_BYTES, WEIGHT_BYTES, World
from tests.support.waiting import eventually


async def test_a_request_for_a_cold_model_is_accepted_assigned_and_its_endpoint_serves(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()

    reply = await world.gateway.submit(model_id, request_id="request-1")

    assert reply.result == SubmitAccepted(queue_position=0)
    await eventually(lambda: "request-1" in world.gateway.assigned, what="the assignment")
    await eventually(
        lambda: world.gateway.routes is not None and model_id in world.gateway.routes.routes,
        what="the route",
    )
    assert world.gateway.routes is not None
    assigned = world.gateway.assigned["request-1"]
    (route,) = world.gateway.routes.routes[model_id]
    assert route.endpoint_id == assigned.endpoint_id
    assert await world.value("SELECT state FROM endpoints") == "STANDALONE"


async def test_a_gateway_that_starts_is_told_the_routes_when_it_asks(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    await world.gateway.submit(model_id)
    await eventually(lambda: world.gateway.routes and model_id in world.gateway.routes.routes)

    routes = RouteTable(SystemClock())
    await RouteLoader(world.gateway.bus, routes, Timing()).run()

    assert [r.endpoint_id for r in routes.candidates(model_id)] == [
        await world.value("SELECT id FROM endpoints")
    ]


async def test_an_idle_endpoint_drains_after_keep_alive_and_leaves_no_reservation(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model(keep_alive_s=0.3)
    await world.gateway.submit(model_id, request_id="request-1")
    await eventually(lambda: "request-1" in world.gateway.assigned)

    await world.finish("request-1")

    async def is_stopped() -> bool:
        return bool(await world.value("SELECT state FROM endpoints") == "STOPPED")

    await eventually(is_stopped, what="the endpoint's end")
    assert await world.value("SELECT count(*) FROM reservations") == 0
    assert node.agent.workers == {}
    assert world.gateway.routes is not None and world.gateway.routes.routes == {}


async def test_worker_and_fetch_are_told_everything_they_need(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model(max_slots=3)

    await world.gateway.submit(model_id)

    await eventually(lambda: node.agent.accepted and node.agent.accepted.workers)
    assert node.agent.accepted is not None
    (worker,) = node.agent.accepted.workers
    (fetch,) = node.agent.accepted.fetches
    assert worker.kv_bytes == KV_BYTES * 3 // 2  # 3 slots of 512 tokens, more than one context
    assert fetch.fetch_id.startswith("fetch-") and fetch.fetch_id != worker.worker_id
    assert (fetch.purpose, fetch.fetch_class) == (FetchPurpose.START, FetchClass.INTERACTIVE)
    assert fetch.manifest_digest == worker.manifest_digest
    assert fetch.unit_digests == worker.unit_digests
    assert len(worker.unit_digests) == 6
    assert worker.max_slots == 3
    slow_s = 8 * WEIGHT_BYTES / 50_000_000  # on a node that eight starts share
    assert worker.start_timeout_ms > 1000 * (world.timing.start_timeout_s + 2 * slow_s)
    assert WEIGHT_BYTES + worker.kv_bytes == worker.device_bytes


async def test_a_model_larger_than_every_device_is_refused_with_the_numbers(world: World) -> None:
    await world.add_node("node-1", memory_bytes=MODEL_BYTES - 1)
    model_id = await world.add_model()

    async def is_known() -> bool:
        return bool(await world.value("SELECT count(*) FROM gpus"))

    await eventually(is_known)
    reply = await world.gateway.submit(model_id)

    assert isinstance(reply.result, SubmitRefused)
    assert reply.result.code == "model_too_large"
    assert str(MODEL_BYTES) in reply.result.message
    assert str(MODEL_BYTES - 1) in reply.result.message
