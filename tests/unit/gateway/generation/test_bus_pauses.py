"""A bus that is silent is a pause: the same endpoint goes on with the same attempt."""

import asyncio
from dataclasses import replace

import pytest

from libs.common.bus.messages import RequestRefused, TokensGenerated
from libs.common.bus.subjects import REQUEST_REFUSED, REQUEST_TOKENS
from libs.common.reasons import Reason
from libs.common.states import FinishReason
from tests.support.waiting import eventually
from tests.unit.gateway.fakeworker import ANSWER
from tests.unit.gateway.world import FAST, GatewayWorld, gateway_world, text_of, worker_for

# An endpoint of which nothing is heard for so long counts as lost, where the bus answers.
LOST_AFTER_S = FAST.silence_s + 2 * FAST.call_timeout_s + FAST.retry_s


async def freeze(world: GatewayWorld) -> None:
    world.broker.freeze()
    await asyncio.sleep(3 * LOST_AFTER_S)  # the freeze itself
    world.broker.thaw()


@pytest.mark.parametrize("num_freezes", [1, 2])
async def test_a_stream_goes_on_in_its_attempt_after_the_bus_froze(num_freezes: int) -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3
        await world.warm_route("ep-1")

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: 3 in world.worker._made.values())
        for _ in range(num_freezes):
            await freeze(world)
        world.worker.go_on.set()

        assert text_of(await asking) == ANSWER
        assert [message.attempt for message in world.worker.generated] == [1]
        assert world.scheduler.submissions == []


async def test_what_was_made_while_the_bus_froze_is_all_there() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: 3 in world.worker._made.values())
        world.broker.freeze()
        world.worker.go_on.set()
        await eventually(lambda: max(world.worker._made.values()) > 3)
        world.broker.thaw()

        assert text_of(await asking) == ANSWER
        assert [message.attempt for message in world.worker.generated] == [1]


async def test_an_endpoint_that_died_while_the_bus_froze_is_lost_afterwards() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        await worker_for(world, "ep-2")

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: 3 in world.worker._made.values())
        await world.worker.die()
        await freeze(world)

        assert text_of(await asking) == ANSWER
        assert world.scheduler.submissions[-1].lost_endpoint_id == "ep-1"


async def test_an_endpoint_that_the_scheduler_gave_up_is_lost_at_once() -> None:
    """A gateway with too much to do hears the bus late, again and again."""
    never_settled = replace(FAST, reconnect_grace_s=3600.0)
    async with gateway_world(never_settled) as world:
        world.worker.pause_after = 3
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        await worker_for(world, "ep-2")

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: 3 in world.worker._made.values())
        await world.worker.die()
        await freeze(world)
        await world.scheduler.tell_progress()

        assert text_of(await asking) == ANSWER
        assert world.scheduler.submissions[-1].lost_endpoint_id == "ep-1"


async def test_an_attempt_that_is_over_where_it_was_sent_goes_on_as_the_next() -> None:
    async with gateway_world() as world:
        world.worker.replies = ["ended"]

        assert text_of(await world.chat()) == ANSWER
        assert [message.attempt for message in world.worker.generated] == [1, 2]
        assert world.scheduler.submissions[-1].lost_endpoint_id is None


async def test_a_cancellation_by_the_scheduler_is_told_with_its_reason() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 2

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: 2 in world.worker._made.values())
        request_id, bus = world.worker.generated[0].request_id, world.worker.bus
        refused = RequestRefused(
            request_id=request_id, attempt=1, code=Reason.GATEWAY_LOST, message="it was cut off"
        )
        ended = TokensGenerated(
            request_id=request_id,
            attempt=1,
            start_index=2,
            ids=(),
            finish=FinishReason.CANCELLED,
        )
        await bus.publish(REQUEST_REFUSED, request_id, refused)
        await bus.publish(REQUEST_TOKENS, request_id, ended)
        response = await asking

        assert response.json()["error"]["code"] == "gateway_lost"
