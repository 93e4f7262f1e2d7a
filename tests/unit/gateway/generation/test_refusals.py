"""What a client is told whose request was not accepted."""

import pytest

from libs.common.bus.messages import SubmitRefused
from services.gateway.errors import ApiError
from services.gateway.generation.refusals import submit_error
from tests.unit.gateway.world import gateway_world

TOO_SHORT = "model big needs at least 1120.0 s to start"


def too_short(needed_s: float, *, timeout_s: float, longest_s: float = 600) -> ApiError:
    refused = SubmitRefused(code="deadline_too_short", message=TOO_SHORT, needed_s=needed_s)
    return submit_error(refused, timeout_s, longest_s)


def test_who_meets_a_full_queue_is_told_when_to_come_again() -> None:
    refused = SubmitRefused(code="queue_full", message="later", retry_after_s=7)

    error = submit_error(refused, 600, 600)

    assert (error.status, error.code) == (429, "queue_full")
    assert error.headers == {"Retry-After": "7"}


@pytest.mark.parametrize("timeout_s", [600, 5])
@pytest.mark.parametrize("needed_s", [1120, 599])
def test_a_model_that_no_request_here_can_wait_for_is_the_operators_matter(
    timeout_s: float, needed_s: float
) -> None:
    error = too_short(needed_s, timeout_s=timeout_s)

    assert (error.status, error.code) == (503, "deadline_too_short")
    assert error.headers == {"X-Should-Retry": "false"}
    for step in (TOO_SHORT, "600 s", "max_pipeline_size", "HYDRA_REQUEST_DEADLINE_S"):
        assert step in error.message


def test_a_client_that_set_too_little_is_told_what_would_do() -> None:
    error = too_short(100, timeout_s=90)

    assert (error.status, error.param, error.headers) == (400, "X-Request-Timeout-Ms", {})
    assert error.message.endswith("X-Request-Timeout-Ms: 130000 would do")
    assert "600000 would do" in too_short(590, timeout_s=90).message


def test_a_request_that_lost_its_time_elsewhere_may_come_again() -> None:
    error = too_short(100, timeout_s=600)

    assert (error.status, error.headers) == (429, {"Retry-After": "1"})


async def test_the_clients_own_deadline_decides_which_of_them_it_is() -> None:
    async with gateway_world() as world:
        world.scheduler.refusal = SubmitRefused(
            code="deadline_too_short", message=TOO_SHORT, needed_s=200
        )
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}

        own = await world.client.post(
            "/v1/chat/completions", json=chat, headers={"X-Request-Timeout-Ms": "100000"}
        )
        world.scheduler.refusal = world.scheduler.refusal.model_copy(update={"needed_s": 1120})
        nobodys = await world.client.post("/v1/chat/completions", json=chat)

    assert (own.status_code, nobodys.status_code) == (400, 503)
    assert "retry-after" not in own.headers and "retry-after" not in nobodys.headers
