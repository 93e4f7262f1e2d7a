"""The bus loses messages, or is gone: a gap is filled, a pause is a pause."""

import asyncio

import pytest

from tests.support.waiting import eventually
from tests.unit.gateway.fakeworker import ANSWER
from tests.unit.gateway.world import FAST, gateway_world, text_of


@pytest.mark.parametrize("lost", [0, 5, 14], ids=["the first", "one in the middle", "the finish"])
async def test_a_lost_token_message_is_sent_again(lost: int) -> None:
    async with gateway_world() as world:
        world.worker.skip_publishing = lambda message: message.start_index == lost

        response = await world.chat()

        assert text_of(response) == ANSWER
        assert world.worker.resends[0].from_index == lost


async def test_every_second_message_of_all_kinds_may_be_lost() -> None:
    async with gateway_world() as world:
        counts: dict[str, int] = {}

        def lose(subject: str, _message: object) -> bool:
            counts[subject] = counts.get(subject, 0) + 1
            return counts[subject] % 2 == 1

        world.broker.lose = lose

        assert text_of(await world.chat()) == ANSWER


async def test_the_bus_may_be_gone_for_a_while_in_the_middle_of_a_stream() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 4

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker._made) == 1)
        world.broker.is_down = True
        world.worker.go_on.set()
        await asyncio.sleep(4 * FAST.silence_s + 2 * FAST.call_timeout_s)  # longer than any timeout
        world.broker.is_down = False

        assert text_of(await asking) == ANSWER
        assert len(world.worker.generated) == 1


async def test_a_scheduler_that_is_away_for_a_moment_is_waited_for() -> None:
    async with gateway_world() as world:
        await world.scheduler.bus.close()

        asking = asyncio.create_task(world.chat())
        await asyncio.sleep(0.1)  # it must fail a few times
        await world.scheduler.start()

        assert text_of(await asking) == ANSWER


@pytest.mark.parametrize("stream", [True, False])
async def test_an_assignment_whose_acceptance_was_lost_is_served(stream: bool) -> None:
    async with gateway_world() as world:
        world.scheduler.is_answering = False

        response = await asyncio.wait_for(world.chat(stream=stream), 10)

        assert response.status_code == 200
        assert "[DONE]" in response.text if stream else text_of(response) == ANSWER


async def test_a_request_that_is_told_of_its_start_was_accepted_though_no_reply_came() -> None:
    async with gateway_world() as world:
        world.scheduler.is_answering = world.scheduler.is_assigning = False

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: world.scheduler.submissions, what="the submission")
        await world.scheduler.tell_progress()
        await asyncio.sleep(2 * FAST.submit_timeout_s)  # longer than an unheard one would wait
        world.scheduler.is_answering = world.scheduler.is_assigning = True

        assert text_of(await asking) == ANSWER


@pytest.mark.parametrize("stream", [True, False])
async def test_a_scheduler_that_never_answers_is_503(stream: bool) -> None:
    async with gateway_world() as world:
        await world.scheduler.bus.close()

        response = await world.chat(stream=stream)

        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert response.json()["error"]["code"] == "scheduler_unavailable"


async def test_who_waits_in_vain_for_a_scheduler_is_told_so_like_who_comes_anew() -> None:
    async with gateway_world() as world:
        await world.chat()  # the template's process starts more slowly than the deadline allows
        world.scheduler.is_assigning = False

        asking = asyncio.create_task(
            world.client.post(
                "/v1/chat/completions",
                json={"model": "tiny", "messages": [{"role": "user", "content": "x"}]},
                headers={"X-Request-Timeout-Ms": "1500"},
            )
        )
        await eventually(lambda: len(world.scheduler.listed) >= 2, what="its repetition")
        world.scheduler.is_answering = False
        response = await asking

        assert response.status_code == 503
        assert response.headers["x-hydra-reason"] == "scheduler_unavailable"
        assert response.headers["retry-after"] == "5"
        await eventually(lambda: len(world.writer.ended) == 2, what="its end")
        assert world.writer.ended[1].outcome == "deadline"


async def test_a_cancellation_is_repeated_until_it_is_answered() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3
        cancels = 0

        def lose(subject: str, _message: object) -> bool:
            nonlocal cancels
            cancels += subject.endswith(".cancel")
            return subject.endswith(".cancel") and cancels < 3

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker._made) == 1)
        world.broker.lose = lose
        asking.cancel()

        await eventually(lambda: len(world.worker.cancelled) == 1)
