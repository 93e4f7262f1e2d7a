"""What a client is told whose request was not accepted."""

import pytest

from libs.common.bus.messages import RequestRefused, SubmitRefused
from libs.common.reasons import Reason
from services.gateway.errors import ApiError
from services.gateway.generation.refusals import refusal_error, submit_error
from tests.unit.gateway.world import gateway_world

NEVER = {"X-Hydra-Reason": "deadline_too_short", "X-Should-Retry": "false"}
TIMEOUT = "X-Request-Timeout-Ms"
TOO_SHORT = "model big needs at least 1120.0 s to start"


def too_short(needed_s: float, *, timeout_s: float, longest_s: float = 600) -> ApiError:
    refused = SubmitRefused(code=Reason.DEADLINE_TOO_SHORT, message=TOO_SHORT, needed_s=needed_s)
    return submit_error(refused, timeout_s, longest_s)


def test_who_meets_a_full_queue_is_told_when_to_come_again() -> None:
    refused = SubmitRefused(code=Reason.QUEUE_FULL, message="later", retry_after_s=7)

    error = submit_error(refused, 600, 600)

    assert (error.status, error.code) == (429, "queue_full")
    assert error.headers == {"X-Hydra-Reason": "queue_full", "Retry-After": "7"}


@pytest.mark.parametrize("timeout_s", [600, 5])
@pytest.mark.parametrize("needed_s", [1120, 599])
def test_a_model_that_no_request_here_can_wait_for_is_the_operators_matter(
    timeout_s: float, needed_s: float
) -> None:
    error = too_short(needed_s, timeout_s=timeout_s)

    assert (error.status, error.code) == (422, "deadline_too_short")
    assert error.headers == NEVER
    for step in (TOO_SHORT, "600 s", "max_pipeline_size", "HYDRA_REQUEST_DEADLINE_S"):
        assert step in error.message


def test_a_client_that_set_too_little_is_told_what_would_do() -> None:
    error = too_short(100, timeout_s=90)

    assert (error.status, error.param) == (422, "X-Request-Timeout-Ms")
    assert error.headers == NEVER
    assert error.message.endswith("X-Request-Timeout-Ms: 130000 would do")
    assert "600000 would do" in too_short(590, timeout_s=90).message


def test_a_request_that_lost_its_time_elsewhere_may_come_again() -> None:
    error = too_short(100, timeout_s=600)

    assert error.status == 429
    assert error.headers == {"X-Hydra-Reason": "deadline_used_up", "Retry-After": "1"}


async def test_the_clients_own_deadline_decides_which_of_them_it_is() -> None:
    async with gateway_world() as world:
        world.scheduler.refusal = SubmitRefused(
            code=Reason.DEADLINE_TOO_SHORT, message=TOO_SHORT, needed_s=200
        )
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}

        own = await world.client.post(
            "/v1/chat/completions", json=chat, headers={"X-Request-Timeout-Ms": "100000"}
        )
        world.scheduler.refusal = world.scheduler.refusal.model_copy(update={"needed_s": 1120})
        nobodys = await world.client.post("/v1/chat/completions", json=chat)

    assert (own.status_code, nobodys.status_code) == (422, 422)
    assert (own.json()["error"]["param"], nobodys.json()["error"]["param"]) == (TIMEOUT, None)
    assert "retry-after" not in own.headers and "retry-after" not in nobodys.headers


@pytest.mark.parametrize(
    "reason",
    [
        Reason.MODEL_NOT_FOUND,
        Reason.MODEL_NOT_READY,
        Reason.MODEL_FAILED,
        Reason.MODEL_TOO_LARGE,
        Reason.MODEL_BACKING_OFF,
        Reason.GATEWAY_LOST,
        Reason.WORKER_CRASHED,
        Reason.DEADLINE_EXCEEDED,
    ],
)
def test_a_fault_has_the_same_answer_whether_found_at_admission_or_while_the_request_waited(
    reason: Reason,
) -> None:
    at_admission = submit_error(
        SubmitRefused(code=reason, message="why", retry_after_s=9), timeout_s=600, longest_s=600
    )
    refused = RequestRefused(
        request_id="request-1", attempt=1, code=reason, message="why", retry_after_s=9
    )
    while_waiting = refusal_error(refused)

    for error in (at_admission, while_waiting):
        assert (error.status, error.outcome) == (reason.row.status, reason.row.outcome)
    assert at_admission.headers == while_waiting.headers
