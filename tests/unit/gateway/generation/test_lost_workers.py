"""Workers die under a request: its stream goes on elsewhere, or it ends with the cause."""

import asyncio
from dataclasses import replace
from functools import partial

from libs.common.bus.messages import GatewayHeartbeat, SubmitRefused, TokensGenerated
from libs.common.bus.subjects import GATEWAY_HEARTBEAT, REQUEST_TOKENS
from libs.common.reasons import Reason
from libs.common.states import FinishReason
from services.gateway.heartbeat import send_heartbeats
from tests.support.waiting import eventually
from tests.unit.gateway.fakeworker import ANSWER
from tests.unit.gateway.tiny import END_ID, ids_of
from tests.unit.gateway.world import FAST, gateway_world, text_of, worker_for


async def test_a_worker_that_dies_mid_stream_is_replaced_and_the_answer_goes_on() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 6
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        second = await worker_for(world, "ep-2")

        asking = asyncio.create_task(world.chat(seed=7, frequency_penalty=1, min_tokens=8))
        await eventually(lambda: 6 in world.worker._made.values())
        await world.worker.die()

        assert text_of(await asking) == ANSWER
        assert second.generated[0].generated_ids == world.worker.answer_ids[:6]
        assert second.generated[0].attempt == 2
        assert second.generated[0].sampling == world.worker.generated[0].sampling
        resubmission = world.scheduler.submissions[-1]
        assert (resubmission.attempt, resubmission.lost_endpoint_id) == (2, "ep-1")
        assert resubmission.was_taken


async def test_a_start_that_failed_is_left_when_the_scheduler_tells_that_the_request_waits() -> (
    None
):
    async with gateway_world(replace(FAST, silence_s=60.0)) as world:
        world.worker.pause_after = 0
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        second = await worker_for(world, "ep-2")

        async def has_come_to_the_second() -> bool:
            await world.scheduler.tell_progress()
            return len(second.generated) > 0

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker.generated) == 1)
        await world.worker.die()
        await eventually(has_come_to_the_second)

        assert text_of(await asking) == ANSWER


async def test_a_start_that_goes_on_is_not_left_for_an_old_message_of_the_queue() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 0

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker.generated) == 1)
        await world.scheduler.tell_progress()
        await eventually(lambda: len(world.worker.resends) > 0)
        world.worker.go_on.set()

        assert text_of(await asking) == ANSWER
        assert len(world.worker.generated) == 1


async def test_a_worker_that_forgot_the_request_counts_as_lost() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        await worker_for(world, "ep-2")

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker._made) == 1)
        world.worker._running.clear()

        assert text_of(await asking) == ANSWER


async def test_what_a_given_up_attempt_still_sends_is_ignored() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        second = await worker_for(world, "ep-2", pause_after=5)

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker._made) == 1)
        world.worker._running.clear()
        await eventually(lambda: len(second.generated) == 1)
        world.worker.answer_ids = ids_of("XXXXXXXXXXXXXXX")
        world.worker.go_on.set()
        await eventually(lambda: len(world.worker._made) == 1)
        second.go_on.set()

        assert text_of(await asking) == ANSWER


async def test_how_many_workers_may_die_under_a_request_is_the_schedulers_to_say() -> None:
    async with gateway_world() as world:
        world.scheduler.endpoint_ids = ["ep-1", "ep-2", "ep-3", "ep-4"]
        world.worker.pause_after = 2
        workers = [world.worker]
        workers += [await worker_for(world, f"ep-{i}", pause_after=2 * i) for i in (2, 3)]
        last = await worker_for(world, "ep-4")

        asking = asyncio.create_task(world.chat())
        for worker in workers:
            await eventually(partial(len, worker._made))
            await worker.die()

        assert text_of(await asking) == ANSWER
        assert last.generated[0].attempt == 4
        assert [s.has_progressed for s in world.scheduler.submissions[-3:]] == [True] * 3


async def test_the_scheduler_hears_at_once_of_the_first_token_after_two_losses() -> None:
    heard: list[GatewayHeartbeat] = []

    async def hear(message: GatewayHeartbeat) -> None:
        heard.append(message)

    async with gateway_world() as world:
        bus, dispatcher = world.broker.bus(), world.gateway.dispatcher
        await bus.subscribe(GATEWAY_HEARTBEAT, None, hear)
        beating = asyncio.create_task(send_heartbeats(bus, dispatcher, "gateway-1", 3600.0))
        world.scheduler.endpoint_ids = ["ep-1", "ep-2", "ep-3"]
        world.worker.pause_after = 2
        second = await worker_for(world, "ep-2", pause_after=4)
        third = await worker_for(world, "ep-3", pause_after=6)

        asking = asyncio.create_task(world.chat())
        for worker in (world.worker, second):
            await eventually(partial(len, worker._made))
            await worker.die()

        request_id = world.scheduler.submissions[0].request_id
        await eventually(lambda: heard[-1].progressed == {request_id: 3})
        assert len(heard) == 2, "nor does it tell of those that nobody waits for"
        third.go_on.set()
        assert text_of(await asking) == ANSWER
        beating.cancel()


async def test_a_request_that_the_scheduler_ends_for_its_crashes_is_a_500() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 2

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker._made) == 1)
        words = "4 engines crashed while they served this request"
        world.scheduler.refusal = SubmitRefused(code=Reason.WORKER_CRASHED, message=words)
        await world.worker.die()
        response = await asking

        assert response.status_code == 500
        assert response.json()["error"]["code"] == "worker_crashed"
        assert words in response.json()["error"]["message"]
        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.writer.ended[0].outcome == "worker_crashed"


async def test_a_worker_that_ends_with_an_error_is_a_500_with_its_message() -> None:
    async with gateway_world() as world:
        world.worker.answer_ids = ()
        world.worker.finish = FinishReason.ERROR

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker.generated) == 1)
        request_id = world.worker.generated[0].request_id
        message = TokensGenerated(
            request_id=request_id, attempt=1, start_index=0, ids=(),
            finish=FinishReason.ERROR, error="out of KV blocks",
        )  # fmt: skip
        await world.worker.bus.publish(REQUEST_TOKENS, request_id, message)
        response = await asking

        assert response.status_code == 500
        assert "out of KV blocks" in response.json()["error"]["message"]


async def test_a_stop_string_is_found_across_two_workers() -> None:
    async with gateway_world() as world:
        answer = (*ids_of("one two three four"), END_ID)
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        world.worker.answer_ids, world.worker.pause_after = answer, 10  # in the middle of "three"
        await worker_for(world, "ep-2", answer_ids=answer)

        asking = asyncio.create_task(world.chat(stop="three"))
        await eventually(lambda: 10 in world.worker._made.values())
        await world.worker.die()

        assert text_of(await asking) == "one two "
