"""Errors for the client when the scheduler or a worker refuses its request. Pure."""

from math import ceil

from libs.common.bus.messages import RequestRefused, SubmitRefused
from libs.common.reasons import Reason
from services.gateway.errors import ApiError, NotServed, TenantLimited
from services.gateway.generation.job import TIMEOUT_HEADER
from services.gateway.settings import DEADLINE_KEY

_SLACK_S = 5.0  # for what a start needs besides its bytes


def submit_error(refused: SubmitRefused, timeout_s: float, longest_s: float) -> ApiError:
    """A submission was not accepted, of a request that may take `timeout_s` in all; its client
    might have given it `longest_s`."""
    if refused.code is Reason.DEADLINE_TOO_SHORT:
        return _too_short_error(refused.message, refused.needed_s or 0.0, timeout_s, longest_s)
    if refused.code is Reason.TENANT_LIMIT:
        limit, retry_after_s = refused.limit or 0, refused.retry_after_s
        return TenantLimited(refused.message, limit=limit, retry_after_s=retry_after_s)
    return NotServed(refused.message, refused.code, retry_after_s=refused.retry_after_s)


def _too_short_error(message: str, needed_s: float, timeout_s: float, longest_s: float) -> ApiError:
    """Nothing was started, so coming again helps only a request that had lost time elsewhere."""
    if needed_s + _SLACK_S > longest_s:
        message += (
            f". No request may take longer than {longest_s:g} s here: the model needs more stages "
            f"(a larger max_pipeline_size), faster networks, or a longer HYDRA_{DEADLINE_KEY}"
        )
        return NotServed(message, Reason.DEADLINE_TOO_SHORT)
    if needed_s + _SLACK_S > timeout_s:
        enough_ms = ceil(1000 * min(longest_s, 1.2 * needed_s + 2 * _SLACK_S))
        message += f". {TIMEOUT_HEADER}: {enough_ms} would do"
        return NotServed(message, Reason.DEADLINE_TOO_SHORT, param=TIMEOUT_HEADER)
    return NotServed(f"{message}. Sent again, it has more time", Reason.DEADLINE_USED_UP)


def refusal_error(refused: RequestRefused) -> ApiError:
    """An accepted request cannot be served after all."""
    return NotServed(refused.message, refused.code, retry_after_s=refused.retry_after_s)


def crash_error(message: str) -> ApiError:
    return NotServed(message, Reason.WORKER_CRASHED)


def deadline_error(waited_for: Reason | None = None) -> ApiError:
    """`waited_for`: why it was still in the queue, if it was."""
    if waited_for is not None:
        return NotServed(f"the request waited in vain: {waited_for.row.meaning}", waited_for)
    message = "the request's deadline passed before the answer was complete"
    return NotServed(message, Reason.DEADLINE_EXCEEDED)


def slow_client_error(waited_s: float) -> ApiError:
    return NotServed(f"the stream was not read for {waited_s:g} s", Reason.CLIENT_TOO_SLOW)


def shutdown_error() -> ApiError:
    message = "this gateway is shutting down, send the request again"
    return NotServed(message, Reason.SHUTTING_DOWN)
