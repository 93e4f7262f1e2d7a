"""Of all requests that wait, in whichever gateway, one tenant's never take all places."""

from dataclasses import replace

from libs.common.bus.messages import SubmitAccepted, SubmitRefused
from tests.integration.scheduler.simulated import SimulatedGateway
from tests.integration.scheduler.world import World


async def test_one_tenants_queued_requests_leave_places_for_others_in_all_gateways(
    world: World,
) -> None:
    world.timing = replace(world.timing, max_queued_requests=6)
    await world.restart_leader()
    first, second = await world.add_model("first"), await world.add_model("second")
    others = await world.add_model("other", tenant="tenant-2")
    elsewhere = SimulatedGateway("gateway-2", world.broker.bus())
    await elsewhere.start()

    await world.gateway.submit(first, request_id="request-1")
    await elsewhere.submit(first, request_id="request-2")
    await world.gateway.submit(second, request_id="request-3")
    refused = (await elsewhere.submit(second)).result
    served = (await elsewhere.submit(others)).result
    repeated = (await world.gateway.submit(first, request_id="request-1")).result
    await world.gateway.cancel("request-1")
    again = (await elsewhere.submit(second, request_id="request-4")).result
    await elsewhere.stop()

    assert isinstance(refused, SubmitRefused)
    assert (refused.code, refused.limit, refused.retry_after_s) == ("tenant_limit", 3, 5)
    assert isinstance(served, SubmitAccepted)
    assert isinstance(repeated, SubmitAccepted)
    assert isinstance(again, SubmitAccepted), "one of its requests has ended"
