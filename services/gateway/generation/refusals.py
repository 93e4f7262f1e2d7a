"""What the client is told when the scheduler or a worker says no. Pure."""

from libs.common.messages import RequestRefused, SubmitRefused
from libs.common.states import RequestOutcome
from services.gateway.errors import (
    ApiError,
    DeadlineExceeded,
    InternalError,
    Overloaded,
    Unavailable,
)


def submit_error(refused: SubmitRefused) -> ApiError:
    """A submission was not accepted."""
    code, message, retry_after_s = refused.code, refused.message, refused.retry_after_s
    if code in ("queue_full", "deadline_too_short"):
        return Overloaded(message, code=code, retry_after_s=retry_after_s or 1)
    if code == "worker_crashed":
        return crash_error(message)
    outcome = RequestOutcome.MODEL_FAILED if code == "model_failed" else None
    return Unavailable(message, code=code, retry_after_s=retry_after_s, outcome=outcome)


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


def slow_client_error(patience_s: float) -> ApiError:
    message = f"the stream was not read for {patience_s:g} s"
    return InternalError(message, code="client_too_slow", outcome=RequestOutcome.CLIENT_TOO_SLOW)


def shutdown_error() -> ApiError:
    message = "this gateway is shutting down, send the request again"
    return Unavailable(
        message, code="shutting_down", retry_after_s=1, outcome=RequestOutcome.GATEWAY_LOST
    )
