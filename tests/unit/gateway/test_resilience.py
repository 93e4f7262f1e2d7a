"""What the bus loses, workers drop and clients abandon: every request ends, and ends right."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from libs.common.messages import (
    RequestAssigned,
    RequestRefused,
    TokensGenerated,
)
from libs.common.states import FinishReason
from libs.common.subjects import REQUEST_REFUSED, REQUEST_TOKENS
from services.gateway.settings import Limits
from tests.unit.gateway.doubles import (
    END_ID,
    FAST,
    KEY,
    FakeWorker,
    GatewayWorld,
    eventually,
    gateway_world,
    ids_of,
)

ANSWER = "Hello, wörld!"


def text_of(response: httpx.Response) -> str:
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


async def worker_for(world: GatewayWorld, endpoint_id: str, **changes: Any) -> FakeWorker:
    worker = FakeWorker(world.broker.bus(), endpoint_id=endpoint_id, **changes)
    await worker.start()
    return worker


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


async def test_a_worker_that_dies_mid_stream_is_replaced_and_the_answer_goes_on() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 6
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        second = await worker_for(world, "ep-2")

        asking = asyncio.create_task(world.chat(seed=7))
        await eventually(lambda: 6 in world.worker._made.values())
        await world.worker.die()

        assert text_of(await asking) == ANSWER
        assert second.generated[0].generated_ids == world.worker.answer_ids[:6]
        assert second.generated[0].attempt == 2
        assert second.generated[0].sampling == world.worker.generated[0].sampling
        resubmission = world.scheduler.submissions[-1]
        assert (resubmission.attempt, resubmission.lost_endpoint_id) == (2, "ep-1")


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


async def test_two_workers_that_die_under_a_request_end_it_with_a_500() -> None:
    async with gateway_world() as world:
        world.scheduler.endpoint_ids = ["ep-1", "ep-2", "ep-3"]
        world.worker.pause_after = 2
        second = await worker_for(world, "ep-2", pause_after=4)
        third = await worker_for(world, "ep-3")

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker._made) == 1)
        await world.worker.die()
        await eventually(lambda: len(second._made) == 1)
        await second.die()
        response = await asking

        assert response.status_code == 500
        assert response.json()["error"]["code"] == "worker_crashed"
        assert third.generated == []
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
        await eventually(lambda: [c.attempt for c in world.worker.cancelled] == [1])


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


async def test_an_assigned_endpoint_that_refuses_makes_a_new_attempt() -> None:
    async with gateway_world() as world:
        world.scheduler.endpoint_ids = ["ep-1", "ep-2"]
        world.worker.replies = ["busy"]
        await worker_for(world, "ep-2")

        assert text_of(await world.chat()) == ANSWER
        last = world.scheduler.submissions[-1]
        assert (last.attempt, last.lost_endpoint_id) == (2, None)


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


async def test_a_scheduler_that_is_away_for_a_moment_is_waited_for() -> None:
    async with gateway_world() as world:
        await world.scheduler.bus.close()

        asking = asyncio.create_task(world.chat())
        await asyncio.sleep(0.1)  # it must fail a few times
        await world.scheduler.start()

        assert text_of(await asking) == ANSWER


@pytest.mark.parametrize("stream", [True, False])
async def test_a_scheduler_that_never_answers_is_503(stream: bool) -> None:
    async with gateway_world() as world:
        await world.scheduler.bus.close()

        response = await world.chat(stream=stream)

        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert response.json()["error"]["code"] == "scheduler_unavailable"


async def test_the_bus_may_be_gone_for_a_while_in_the_middle_of_a_stream() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 4

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker._made) == 1)
        world.broker.is_down = True
        world.worker.go_on.set()
        await asyncio.sleep(4 * FAST.silence_s + 2 * FAST.call_timeout_s)  # long past any patience
        world.broker.is_down = False

        assert text_of(await asking) == ANSWER
        assert len(world.worker.generated) == 1


async def test_a_deadline_ends_a_waiting_request_with_504() -> None:
    async with gateway_world() as world:
        world.scheduler.is_assigning = False

        response = await world.client.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": [{"role": "user", "content": "x"}]},
            headers={"X-Request-Timeout-Ms": "300"},
        )

        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        assert response.headers["x-should-retry"] == "false"
        await eventually(lambda: len(world.scheduler.cancelled) >= 1)
        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.writer.ended[0].outcome == "deadline"


async def test_a_deadline_after_the_headers_is_an_error_event() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3

        response = await world.client.post(
            "/v1/chat/completions",
            json={
                "model": "tiny",
                "messages": [{"role": "user", "content": "x"}],
                "stream": True,
            },
            headers={"X-Request-Timeout-Ms": "500"},
        )

        last = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))
        assert response.status_code == 200
        assert last["error"]["code"] == "deadline_exceeded"
        assert "[DONE]" not in response.text
        await eventually(lambda: len(world.worker.cancelled) >= 1)


async def test_a_refusal_after_the_headers_is_an_error_event() -> None:
    async with gateway_world() as world:
        world.scheduler.is_assigning = False

        asking = asyncio.create_task(world.chat(stream=True))
        await eventually(lambda: len(world.scheduler.submissions) >= 2)
        submission = world.scheduler.submissions[0]
        refused = RequestRefused(
            request_id=submission.request_id, attempt=1, code="model_failed", message="no weights"
        )
        await world.scheduler.bus.publish(REQUEST_REFUSED, submission.request_id, refused)
        response = await asking

        assert response.status_code == 200
        assert '"message":"no weights"' in response.text


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_its_request_at_the_worker(stream: bool) -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3

        asking = asyncio.create_task(world.chat(stream=stream))
        await eventually(lambda: len(world.worker._made) == 1)
        asking.cancel()

        await eventually(lambda: len(world.worker.cancelled) == 1)
        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.writer.ended[0].outcome == "cancelled"
        assert world.gateway.dispatcher.open_ids == ()


async def test_a_client_that_leaves_while_it_waits_cancels_at_the_scheduler() -> None:
    async with gateway_world() as world:
        world.scheduler.is_assigning = False

        asking = asyncio.create_task(world.chat(stream=True))
        await eventually(lambda: len(world.scheduler.submissions) >= 1)
        await asyncio.sleep(0)
        asking.cancel()

        await eventually(lambda: len(world.scheduler.cancelled) == 1)


async def test_a_cancellation_is_repeated_until_it_is_heard() -> None:
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


async def test_too_many_open_requests_are_429() -> None:
    limits = Limits(max_open_requests=1, num_template_processes=1)
    async with gateway_world(limits=limits) as world:
        world.worker.pause_after = 1

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker.generated) == 1)
        response = await world.chat()
        world.worker.go_on.set()

        assert response.status_code == 429
        assert text_of(await asking) == ANSWER


async def test_draining_refuses_new_requests_and_lets_open_ones_end() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3

        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker._made) == 1)
        draining = asyncio.create_task(world.gateway.dispatcher.drain(5.0))
        await eventually(lambda: world.gateway.dispatcher.is_draining)
        refused, ready = await world.chat(), await world.client.get("/readyz")
        world.worker.go_on.set()
        await draining

        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert ready.status_code == 503
        assert text_of(await asking) == ANSWER


async def test_what_is_still_open_when_the_drain_ends_is_told_so() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3

        asking = asyncio.create_task(world.chat(stream=True))
        await eventually(lambda: len(world.worker._made) == 1)
        await world.gateway.dispatcher.drain(0.1)

        assert '"code":"shutting_down"' in (await asking).text


async def test_a_reader_that_stops_reading_is_cut_off_and_its_worker_told() -> None:
    limits = Limits(max_unread_tokens=4, num_template_processes=1)
    async with gateway_world(limits=limits) as world:
        world.worker.answer_ids = (*ids_of("x" * 50), END_ID)
        sent = asyncio.Event()
        body = json.dumps(
            {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "x"}]}
        ).encode()
        requests = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if requests:
                return requests.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                sent.set()
                await asyncio.Event().wait()  # the socket's buffers are full, for ever

        await asyncio.wait_for(world.app(_scope(), receive, send), 10)  # type: ignore[arg-type] # plain dicts

        assert sent.is_set()
        await eventually(lambda: len(world.worker.cancelled) == 1)
        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.writer.ended[0].outcome == "client_too_slow"


def _scope() -> dict[str, Any]:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "root_path": "",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "client": None,
        "server": None,
    }


async def test_a_slow_reader_loses_nothing() -> None:
    limits = Limits(max_unread_tokens=4, num_template_processes=1)
    async with gateway_world(limits=limits) as world:
        world.worker.answer_ids = (*ids_of("abc" * 30), END_ID)

        assert text_of(await world.chat()) == "abc" * 30


async def test_rows_wait_for_postgres_and_are_written_once_it_is_back() -> None:
    async with gateway_world() as world:
        world.writer.is_down = True
        await world.chat()
        assert world.gateway.journal.num_kept == 1

        world.writer.is_down = False

        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.gateway.journal.num_kept == 0


async def test_postgres_may_be_down_while_a_warm_model_answers() -> None:
    async with gateway_world() as world:
        await world.warm_route("ep-1")
        await world.chat()
        world.keys.is_down = world.models.is_down = world.writer.is_down = True

        assert text_of(await world.chat()) == ANSWER
