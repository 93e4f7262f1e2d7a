"""Deadlines, refusals, clients that leave and a gateway that closes: every request ends once."""

import asyncio
import json

import pytest

from libs.common.bus.messages import RequestProgressed, RequestRefused
from libs.common.bus.subjects import REQUEST_PROGRESS, REQUEST_REFUSED
from libs.common.reasons import Reason
from services.gateway.settings import Limits
from tests.support.waiting import eventually
from tests.unit.gateway.fakeworker import ANSWER
from tests.unit.gateway.world import gateway_world, text_of


async def test_a_deadline_ends_a_waiting_request_with_504() -> None:
    async with gateway_world() as world:
        await world.chat()  # the template's process starts more slowly than the deadline allows
        world.scheduler.is_assigning = False

        response = await world.client.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": [{"role": "user", "content": "x"}]},
            headers={"X-Request-Timeout-Ms": "1000"},
        )

        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        assert response.headers["x-should-retry"] == "false"
        await eventually(lambda: len(world.scheduler.cancelled) >= 1)
        await eventually(lambda: len(world.writer.ended) == 2)
        assert world.writer.ended[1].outcome == "deadline"


@pytest.mark.parametrize(
    ("reason", "status"), [(Reason.NODE_FAULT, 503), (Reason.CLUSTER_FULL, 429)]
)
async def test_a_deadline_that_passes_in_the_queue_says_what_the_request_waited_for(
    reason: Reason, status: int
) -> None:
    async with gateway_world() as world:
        await world.chat()  # the template's process starts more slowly than the deadline allows
        world.scheduler.is_assigning = False

        asking = asyncio.create_task(
            world.client.post(
                "/v1/chat/completions",
                json={"model": "tiny", "messages": [{"role": "user", "content": "x"}]},
                headers={"X-Request-Timeout-Ms": "1000"},
            )
        )
        await eventually(lambda: len(world.scheduler.submissions) >= 2)
        request_id = world.scheduler.submissions[-1].request_id
        told = RequestProgressed(request_id=request_id, phase="queued", reason=reason)
        await world.scheduler.bus.publish(REQUEST_PROGRESS, request_id, told)
        response = await asking

        assert (response.status_code, response.headers["x-hydra-reason"]) == (status, reason)
        assert int(response.headers["retry-after"]) >= 1
        await eventually(lambda: len(world.writer.ended) == 2)
        assert world.writer.ended[1].outcome == "deadline"


async def test_a_deadline_after_the_headers_is_an_error_event() -> None:
    async with gateway_world() as world:
        await world.chat()
        world.worker.pause_after = 3

        response = await world.client.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": True},
            headers={"X-Request-Timeout-Ms": "1000"},
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
        await eventually(lambda: len(world.scheduler.listed) >= 1)
        submission = world.scheduler.submissions[0]
        refused = RequestRefused(
            request_id=submission.request_id,
            attempt=1,
            code=Reason.MODEL_FAILED,
            message="no weights",
        )
        await world.scheduler.bus.publish(REQUEST_REFUSED, submission.request_id, refused)
        response = await asking

        assert response.status_code == 200
        assert '"message":"no weights"' in response.text
        assert '"reason":"model_failed"' in response.text


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
