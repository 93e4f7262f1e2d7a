"""Requests that wait in the scheduler's queue are asked for together, and seldom alone."""

import asyncio
from collections import Counter

import pytest

from services.gateway.generation import waiting_requests
from tests.support.waiting import eventually
from tests.unit.gateway.fakeworker import ANSWER
from tests.unit.gateway.world import GatewayWorld, gateway_world, text_of


async def ask(world: GatewayWorld, count: int) -> list["asyncio.Task[object]"]:
    world.scheduler.is_assigning = False
    asking: list[asyncio.Task[object]] = [asyncio.create_task(world.chat()) for _ in range(count)]
    await eventually(lambda: len(world.scheduler.submissions) == count)
    return asking


async def end(asking: list["asyncio.Task[object]"]) -> None:
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)


async def test_many_that_wait_are_repeated_in_one_message_and_none_alone() -> None:
    async with gateway_world() as world:
        asking = await ask(world, 20)

        await eventually(lambda: [len(x.attempts) for x in world.scheduler.listed][-2:] == [20, 20])
        await end(asking)

        assert len(world.scheduler.submissions) == 20


async def test_what_the_scheduler_does_not_know_to_wait_is_submitted_again_alone() -> None:
    async with gateway_world() as world:
        asking = await ask(world, 3)
        lost = world.scheduler.submissions.pop(0)  # a new leader that never heard of it

        await eventually(lambda: world.scheduler.submissions[-1].request_id == lost.request_id)
        await eventually(lambda: len(world.scheduler.listed) >= 3)
        await end(asking)

        counts = Counter(message.request_id for message in world.scheduler.submissions)
        assert set(counts.values()) == {1}


async def test_a_lost_assignment_is_found_by_the_repetition() -> None:
    async with gateway_world() as world:
        world.scheduler.loses_assigned = True

        response = await world.chat()

        assert text_of(response) == ANSWER


async def test_a_large_number_is_asked_for_in_several_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting_requests, "_MAX_IN_MESSAGE", 2)
    async with gateway_world() as world:
        asking = await ask(world, 5)

        await eventually(lambda: len(world.scheduler.listed) >= 3)
        await end(asking)

        assert max(len(message.attempts) for message in world.scheduler.listed) == 2
        assert len({id_ for message in world.scheduler.listed for id_ in message.attempts}) == 5


async def test_nobody_who_waits_is_listed_any_more_once_assigned_or_gone() -> None:
    async with gateway_world() as world:
        await end(await ask(world, 2))
        world.scheduler.is_assigning = True
        await world.chat()
        num_listed = len(world.scheduler.listed)

        await asyncio.sleep(3 * world.gateway.dispatcher.timing.repeat_s)

        assert len(world.scheduler.listed) == num_listed


async def test_one_that_is_refused_while_it_asks_again_is_not_listed_any_more() -> None:
    """Its endpoint does not listen, and the scheduler's refusal overtakes its reply."""
    async with gateway_world() as world:
        await world.worker.die()
        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.scheduler.submissions) == 1)
        world.scheduler.refuses_queued = True

        response = await asking

        assert response.json()["error"]["code"] == "model_failed"
        assert world.gateway.waiting._entries == {}
