"""Endpoints that are busy, draining or not there yet: somebody else is asked."""

import asyncio
from dataclasses import replace

import pytest

from libs.common.bus.messages import RequestAssigned
from tests.support.waiting import eventually
from tests.unit.gateway.fakeworker import ANSWER
from tests.unit.gateway.world import FAST, gateway_world, text_of, worker_for


@pytest.mark.parametrize("replies", [["busy"], ["draining"], ["stale_epoch"]])
async def test_a_warm_endpoint_that_refuses_makes_way_for_the_next(replies: list[str]) -> None:
    async with gateway_world() as world:
        world.worker.replies = replies * 4
        second = await worker_for(world, "ep-2")
        await world.warm_route("ep-1", "ep-2")

        answers = [await world.chat() for _ in range(3)]

        assert [text_of(answer) for answer in answers] == [ANSWER] * 3
        assert len(second.generated) == 3
        assert world.scheduler.submissions == []


async def test_after_two_refusals_the_scheduler_decides() -> None:
    async with gateway_world() as world:
        world.worker.replies = ["busy"]
        await worker_for(world, "ep-2", replies=["busy"])
        await world.warm_route("ep-1", "ep-2", "ep-nobody")

        assert text_of(await world.chat()) == ANSWER
        assert len(world.scheduler.submissions) >= 1
        assert world.scheduler.submissions[0].attempt == 1
        assert world.scheduler.submissions[0].lost_endpoint_id is None


async def test_a_warm_endpoint_that_does_not_answer_is_given_up_and_told_so() -> None:
    async with gateway_world() as world:
        world.scheduler.endpoint_ids = ["ep-2"]
        await worker_for(world, "ep-2")
        await world.warm_route("ep-1")
        world.broker.lose = lambda subject, _message: subject.endswith("ep-1.generate")

        assert text_of(await world.chat()) == ANSWER
        submission = world.scheduler.submissions[0]
        assert (submission.attempt, submission.lost_endpoint_id) == (2, "ep-1")
        assert not submission.was_taken, "nobody knows whether it had the request"
        await eventually(lambda: [c.attempt for c in world.worker.cancelled] == [1])


async def test_a_warm_endpoint_that_sent_tokens_without_an_answer_had_the_request() -> None:
    async with gateway_world() as world:
        world.scheduler.endpoint_ids = ["ep-2"]
        await worker_for(world, "ep-2")
        world.worker.is_mute, world.worker.pause_after = True, 3
        await world.warm_route("ep-1")

        assert text_of(await world.chat()) == ANSWER
        submission = world.scheduler.submissions[0]
        assert (submission.lost_endpoint_id, submission.was_taken) == ("ep-1", True)


async def test_an_assigned_endpoint_that_refuses_makes_a_new_attempt() -> None:
    async with gateway_world() as world:
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        world.worker.replies = ["busy"]
        await worker_for(world, "ep-2")

        assert text_of(await world.chat()) == ANSWER
        last = world.scheduler.submissions[-1]
        assert (last.attempt, last.lost_endpoint_id) == (2, None)


async def test_an_endpoint_that_listens_a_moment_later_is_asked_at_once() -> None:
    async with gateway_world(replace(FAST, retry_s=60.0)) as world:
        world.scheduler.endpoint_ids = ["ep-late"]

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: world.scheduler.submissions)
        await worker_for(world, "ep-late")

        async with asyncio.timeout(5):
            assert text_of(await asking) == ANSWER


async def test_an_endpoint_that_does_not_listen_yet_is_waited_for() -> None:
    async with gateway_world() as world:
        world.scheduler.endpoint_ids = ["ep-late"]

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.scheduler.submissions) >= 2)
        await worker_for(world, "ep-late")

        assert text_of(await asking) == ANSWER


async def test_an_endpoint_replaced_before_it_listened_is_forgotten() -> None:
    async with gateway_world() as world:
        world.scheduler.endpoint_ids = ["ep-dead"]

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.scheduler.submissions) >= 1)
        submission = world.scheduler.submissions[0]
        world.scheduler.assigned[(submission.request_id, 1)] = RequestAssigned(
            request_id=submission.request_id, attempt=1, endpoint_id="ep-1", epoch=1
        )

        assert text_of(await asking) == ANSWER
