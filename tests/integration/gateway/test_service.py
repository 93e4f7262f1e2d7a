"""The running service: ready, health file, heartbeats, outages, and an orderly end."""

import asyncio

from libs.common.bus.messages import GatewayHeartbeat, Route, RoutesPublished
from libs.common.bus.subjects import GATEWAY_HEARTBEAT, ROUTES
from tests.integration.gateway.conftest import RunningGateway
from tests.integration.servers import RunningNats
from tests.support.waiting import eventually

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


async def test_it_says_that_it_lives_and_is_ready(running: RunningGateway) -> None:
    health_file = running.settings.health_file
    assert health_file is not None

    assert (await running.client.get("/healthz")).json() == {"status": "alive"}
    assert (await running.client.get("/readyz")).json() == {"status": "ready"}
    assert "hydra_gateway_bus_connected 1" in (await running.client.get("/metrics")).text
    assert (await running.client.get("/openapi.json")).status_code == 200
    await eventually(health_file.exists)


async def test_heartbeats_name_the_open_requests(running: RunningGateway) -> None:
    await running.register()
    running.worker.pause_after = 3
    heard: list[GatewayHeartbeat] = []

    async def on_heartbeat(message: GatewayHeartbeat) -> None:
        heard.append(message)

    await running.scheduler.bus.subscribe(GATEWAY_HEARTBEAT, None, on_heartbeat)
    asking = asyncio.create_task(running.client.post("/v1/chat/completions", json=CHAT))
    await eventually(lambda: any(message.request_ids for message in heard))
    running.worker.go_on.set()
    response = await asking

    open_ids = {request_id for message in heard for request_id in message.request_ids}
    assert open_ids == {response.headers["x-request-id"]}


async def test_nats_killed_for_a_while_in_mid_stream_is_a_pause(
    running: RunningGateway, nats_server: RunningNats
) -> None:
    await running.register()
    running.worker.pause_after = 5

    asking = asyncio.create_task(running.client.post("/v1/chat/completions", json=CHAT))
    await eventually(lambda: len(running.worker._made) == 1)
    await nats_server.kill()
    assert (await running.client.get("/readyz")).status_code == 503
    running.worker.go_on.set()
    await nats_server.start()
    response = await asking

    assert response.json()["choices"][0]["message"]["content"] == "Hello, wörld!"
    # The same attempt is sent again if the kill took the reply to it.
    assert {message.attempt for message in running.worker.generated} == {1}


async def test_a_client_that_disconnects_cancels_at_the_worker(running: RunningGateway) -> None:
    await running.register()
    running.worker.pause_after = 3

    async with running.client.stream(
        "POST", "/v1/chat/completions", json={**CHAT, "stream": True}
    ) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                break

    await eventually(lambda: len(running.worker.cancelled) == 1)
    await eventually(lambda: running.gateway.dispatcher.open_ids == ())


async def test_routes_let_a_request_pass_by_the_scheduler(running: RunningGateway) -> None:
    model_id = await running.register()
    route = Route(endpoint_id="ep-1", epoch=1, max_slots=4)
    message = RoutesPublished(leader_epoch=1, routes={model_id: (route,)})
    await running.scheduler.bus.publish(ROUTES, None, message)
    await eventually(lambda: len(running.gateway.routes.candidates(model_id)) == 1)

    response = await running.client.post("/v1/chat/completions", json=CHAT)

    assert response.status_code == 200
    assert running.scheduler.submissions == []


async def test_it_ends_in_order_open_streams_first(running: RunningGateway) -> None:
    await running.register()
    running.worker.pause_after = 3

    asking = asyncio.create_task(running.client.post("/v1/chat/completions", json=CHAT))
    await eventually(lambda: len(running.worker._made) == 1)
    running.stop.set()
    await eventually(lambda: running.gateway.dispatcher.is_draining)
    refused = await running.client.post("/v1/chat/completions", json=CHAT)
    running.worker.go_on.set()
    response = await asking
    await asyncio.wait_for(running.serving, 10)

    assert refused.status_code == 503
    assert response.status_code == 200
