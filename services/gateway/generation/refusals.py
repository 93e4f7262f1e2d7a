"""Errors for the client when the scheduler or a worker refuses its request. Pure."""

from math import ceil

from libs.common.bus.messages import RequestRefused, SubmitRefused
from libs.common.states import RequestOutcome
from services.gateway.errors import (
    ApiError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    TenantLimited,
    Unavailable,
)
from services.gateway.generation.job import TIMEOUT_HEADER
from services.gateway.settings import DEADLINE_KEY

_SLACK_S = 5.0  # for what a start needs besides its bytes


def submit_error(refused: SubmitRefused, timeout_s: float, longest_s: float) -> ApiError:
    """A submission was not accepted, of a request that may take `timeout_s` in all; its client
    might have given it `longest_s`."""
    code, message, retry_after_s = refused.code, refused.message, refused.retry_after_s
    if code == "deadline_too_short":
        return _too_short_error(message, refused.needed_s or 0.0, timeout_s, longest_s)
    if code == "queue_full":
        return Overloaded(message, code=code, retry_after_s=retry_after_s or 1)
    if code == "tenant_limit":
        return TenantLimited(message, limit=refused.limit or 0, retry_after_s=retry_after_s or 1)
    if code == "worker_crashed":
        return crash_error(message)
    outcome = RequestOutcome.MODEL_FAILED if code == "model_failed" else None
    return Unavailable(message, code=code, retry_after_s=retry_after_s, outcome=outcome)


def _too_short_error(message: str, needed_s: float, timeout_s: float, longest_s: float) -> ApiError:
    """Nothing was started, so coming again helps only a request that had lost time elsewhere."""
    code, outcome = "deadline_too_short", RequestOutcome.DEADLINE
    if needed_s + _SLACK_S > longest_s:
        message += (
            f". No request may take longer than {longest_s:g} s here: the model needs more stages "
            f"(a larger max_pipeline_size), faster networks, or a longer HYDRA_{DEADLINE_KEY}"
        )
        return Unavailable(message, code=code, outcome=outcome)
    if needed_s + _SLACK_S > timeout_s:
        enough_ms = ceil(1000 * min(longest_s, 1.2 * needed_s + 2 * _SLACK_S))
        message += f". {TIMEOUT_HEADER}: {enough_ms} would do"
        return InvalidRequest(message, code=code, param=TIMEOUT_HEADER, outcome=outcome)
    message += ". Sent again, it has more time"
    return Overloaded(message, code=code, retry_after_s=1, outcome=outcome)


def refusal_error(refused: RequestRefused) -> ApiError:
    """An accepted request cannot be served after all."""
    if refused.code == "worker_crashed":
        return crash_error(refused.message)
    if refused.code == "deadline":
        return DeadlineExceeded(refused.message, code="deadline_exceeded")
    if refused.code == "gateway_lost":
        outcome = RequestOutcome.GATEWAY_LOST
        return InternalError(refused.message, code=refused.code, outcome=outcome)
    outcome = RequestOutcome.MODEL_FAILED
    return Unavailable(refused.message, code=refused.code, outcome=outcome)


def crash_error(message: str) -> ApiError:
    return InternalError(message, code="worker_crashed", outcome=RequestOutcome.WORKER_CRASHED)


def deadline_error() -> ApiError:
    message = "the request's deadline passed before the answer was complete"
    return DeadlineExceeded(message, code="deadline_exceeded")


def slow_client_error(waited_s: float) -> ApiError:
    message = f"the stream was not read for {waited_s:g} s"
    return InternalError(message, code="client_too_slow", outcome=RequestOutcome.CLIENT_TOO_SLOW)


def shutdown_error() -> ApiError:
    message = "this gateway is shutting down, send the request again"
    return Unavailable(
        message, code="shutting_down", retry_after_s=1, outcome=RequestOutcome.GATEWAY_LOST
    )
