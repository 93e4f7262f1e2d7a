"""What a lost gateway's requests owe for is told by the agents, and counts once."""

from libs.common.bus.messages import CancelRequest, UnacknowledgedEnd
from services.scheduler.store.accounting import accounts
from tests.integration.scheduler.simulated import SimulatedGateway
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

USAGE = "SELECT num_requests, num_prompt_tokens, num_generated_tokens FROM usage"


async def test_the_tokens_of_a_lost_gateways_request_count_once_as_its_agent_tells(
    world: World,
) -> None:
    world.leader.controller.rounds.accounting.silence_s = 0.2
    node, model_id = await world.add_node("node-1"), await world.add_model()
    await world.start_endpoint(model_id, "request-1")
    dying = SimulatedGateway("gateway-2", world.broker.bus())
    await dying.start()
    await dying.submit(model_id, request_id="cut-off")
    await eventually(lambda: "cut-off" in dying.assigned, what="its assignment")
    await dying.stop()

    await world.until("SELECT outcome FROM requests WHERE id='cut-off'", "gateway_lost")
    (cancel,) = [m for _, m in world.broker.published if isinstance(m, CancelRequest)]
    assert cancel.request_id == "cut-off" and cancel.unread_ms is not None
    ends = (("cut-off", 1, 5), ("cut-off", 2, 7), ("request-1", 1, 3), ("nobodys", 1, 2))
    node.agent.unacknowledged = tuple(
        UnacknowledgedEnd(request_id=id_, attempt=attempt, num_generated_tokens=num)
        for id_, attempt, num in ends
    )

    await world.until("SELECT is_accounted FROM requests WHERE id='cut-off'", True)
    for _ in range(3):  # as each heartbeat tells it again
        async with world.database.transaction() as session:
            await accounts.close_reported(session, node.agent.unacknowledged, silence_s=0.0)
    assert await world.rows(USAGE) == [(1, 5, 7)]
    assert await world.value("SELECT num_generated_tokens FROM requests WHERE id='cut-off'") == 7


async def test_a_gateway_that_lives_accounts_for_its_requests_itself(world: World) -> None:
    end = UnacknowledgedEnd(request_id="request-1", attempt=1, num_generated_tokens=3)
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    await world.finish("request-1")
    await world.until("SELECT count(*) FROM gateways", 1)

    async with world.database.transaction() as session:
        await accounts.close_reported(session, [end], silence_s=60.0)
    await world.execute("UPDATE requests SET ended_at = now() - interval '2 minutes'")
    async with world.database.transaction() as session:
        await accounts.close_reported(session, [end], silence_s=60.0)

    assert await world.rows(USAGE) == []


async def test_no_agent_can_make_a_request_owe_for_more_than_it_asked_for(world: World) -> None:
    end = UnacknowledgedEnd(request_id="r", attempt=1, num_generated_tokens=2**63 - 1)
    await world.execute(
        "INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, outcome,"
        " num_prompt_tokens, max_tokens, deadline_at, ended_at) VALUES ('r', 'tenant-1',"
        " 'model-1', 'gone', 1, 'ENDED', 'gateway_lost', 10, 20, now(), now())"
    )
    async with world.database.transaction() as session:
        await accounts.close_reported(session, [end], silence_s=-1.0)

    assert await world.rows(USAGE) == [(1, 10, 20)]
