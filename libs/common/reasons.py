"""Why a request is not served, or not any more: one table of reasons, each with its HTTP status.

Scheduler and gateways name a reason, and the table says the rest, so the same fault has the same
answer wherever it is found: at admission, in the queue, or under way. Clients read the reason's
name in the header `X-Hydra-Reason`; `docs/errors.md` shows the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from libs.common.states import RequestOutcome as Outcome

REASON_HEADER = "X-Hydra-Reason"


class Reason(StrEnum):
    # The request, or what it asks for, is wrong.
    INVALID_REQUEST = "invalid_request"
    INVALID_API_KEY = "invalid_api_key"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    # The model cannot answer.
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_NOT_READY = "model_not_ready"
    MODEL_FAILED = "model_failed"
    MODEL_TOO_LARGE = "model_too_large"
    MODEL_BACKING_OFF = "model_backing_off"
    MODEL_CHANGED = "model_changed"
    TOKENIZER_FAILED = "tokenizer_failed"
    DEADLINE_TOO_SHORT = "deadline_too_short"
    # There is too much to do.
    QUEUE_FULL = "queue_full"
    CLUSTER_FULL = "cluster_full"
    TENANT_LIMIT = "tenant_limit"
    GATEWAY_FULL = "gateway_full"
    TEMPLATE_BUSY = "template_busy"
    TOKENIZER_BUSY = "tokenizer_busy"
    DEADLINE_USED_UP = "deadline_used_up"
    # Something that it needs is away.
    NODE_FAULT = "node_fault"
    DATABASE_UNAVAILABLE = "database_unavailable"
    SCHEDULER_UNAVAILABLE = "scheduler_unavailable"
    BUS_UNAVAILABLE = "bus_unavailable"
    OBJECT_STORE_UNAVAILABLE = "object_store_unavailable"
    SHUTTING_DOWN = "shutting_down"
    GATEWAY_LOST = "gateway_lost"
    # It was begun, and ended without an answer.
    DEADLINE_EXCEEDED = "deadline_exceeded"
    WORKER_CRASHED = "worker_crashed"
    WORKER_ERROR = "worker_error"
    CLIENT_TOO_SLOW = "client_too_slow"
    CANCELLED = "cancelled"
    ENDED = "ended"
    INTERNAL_ERROR = "internal_error"

    @property
    def row(self) -> "ReasonRow":
        return REASONS[self]


class ClientRetry(StrEnum):
    """Whether a client should send the request again."""

    NEVER = "no"  # it would fail again; the header `X-Should-Retry: false` says so
    ONCE = "once"  # it may have been bad luck; no header
    LATER = "yes"  # after `Retry-After`


@dataclass(frozen=True)
class RetryAfter:
    """What the header `Retry-After` says."""

    rule: str  # in words, for the docs; empty: always the default
    default_s: int  # where nobody can say better


@dataclass(frozen=True)
class ReasonRow:
    """`retry_after` is set if and only if clients should come again later."""

    status: int
    retry: ClientRetry
    outcome: Outcome  # in the request's row, if it had been accepted
    meaning: str
    retry_after: RetryAfter | None = None


def _never(status: int, outcome: Outcome, meaning: str) -> ReasonRow:
    return ReasonRow(status, ClientRetry.NEVER, outcome, meaning)


def _once(status: int, outcome: Outcome, meaning: str) -> ReasonRow:
    return ReasonRow(status, ClientRetry.ONCE, outcome, meaning)


def _later(
    status: int, outcome: Outcome, default_s: int, meaning: str, rule: str = ""
) -> ReasonRow:
    return ReasonRow(status, ClientRetry.LATER, outcome, meaning, RetryAfter(rule, default_s))


REASONS: Mapping[Reason, ReasonRow] = {
    Reason.INVALID_REQUEST: _never(
        400, Outcome.REFUSED, "it can never work as it is: `code` and `param` say what is wrong"
    ),
    Reason.INVALID_API_KEY: _never(401, Outcome.REFUSED, "no key, an unknown or a revoked one"),
    Reason.FORBIDDEN: _never(403, Outcome.REFUSED, "the tenant, or the origin, may not do it"),
    Reason.NOT_FOUND: _never(404, Outcome.REFUSED, "there is no such path, or no such thing"),
    Reason.METHOD_NOT_ALLOWED: _never(405, Outcome.REFUSED, "the path does not know the method"),
    Reason.REQUEST_TIMEOUT: _once(408, Outcome.REFUSED, "the body did not arrive in time"),
    Reason.CONFLICT: _never(409, Outcome.REFUSED, "the name is taken, or the field is fixed"),
    Reason.PAYLOAD_TOO_LARGE: _never(413, Outcome.REFUSED, "the body is larger than allowed"),
    Reason.UNSUPPORTED_MEDIA_TYPE: _never(415, Outcome.REFUSED, "the body is not JSON by its type"),
    Reason.MODEL_NOT_FOUND: _never(
        404, Outcome.MODEL_FAILED, "the tenant has no such model, or it was deleted"
    ),
    Reason.MODEL_NOT_READY: _later(
        503, Outcome.MODEL_FAILED, 5, "the model is being imported", "what is left of the import"
    ),
    Reason.MODEL_FAILED: _never(
        422, Outcome.MODEL_FAILED, "the import failed, or the model's settings leave it no room"
    ),
    Reason.MODEL_TOO_LARGE: _never(
        422, Outcome.MODEL_FAILED, "the model is larger than this cluster could ever hold"
    ),
    Reason.MODEL_BACKING_OFF: _later(
        503,
        Outcome.MODEL_FAILED,
        10,
        "starts of the model failed, and the next try has to wait",
        "what is left of the back-off",
    ),
    Reason.MODEL_CHANGED: _later(
        503, Outcome.MODEL_FAILED, 1, "the model's context was changed meanwhile"
    ),
    Reason.TOKENIZER_FAILED: _never(
        500, Outcome.REFUSED, "the model's tokenizer files are not what they should be"
    ),
    Reason.DEADLINE_TOO_SHORT: _never(
        422, Outcome.DEADLINE, "no start of the model is as short as the request's deadline"
    ),
    Reason.QUEUE_FULL: _later(
        429,
        Outcome.REFUSED,
        5,
        "as many requests as may wait for the model, or for all of them",
        "what its queue takes at its present speed",
    ),
    Reason.CLUSTER_FULL: _later(
        429,
        Outcome.DEADLINE,
        10,
        "until its deadline other models had the room that a start needs",
    ),
    Reason.TENANT_LIMIT: _later(
        429,
        Outcome.REFUSED,
        1,
        "the tenant, or its key, has as much under way as it may; see `x-ratelimit-*`",
    ),
    Reason.GATEWAY_FULL: _later(
        429, Outcome.REFUSED, 2, "the gateway has as many requests or connections as it may"
    ),
    Reason.TEMPLATE_BUSY: _later(429, Outcome.REFUSED, 2, "too many chat templates are rendered"),
    Reason.TOKENIZER_BUSY: _later(429, Outcome.REFUSED, 2, "too many prompts are tokenized"),
    Reason.DEADLINE_USED_UP: _later(
        429,
        Outcome.DEADLINE,
        1,
        "its deadline suffices for a start, but what was left of it when it was queued did not",
    ),
    Reason.NODE_FAULT: _later(
        503,
        Outcome.DEADLINE,
        10,
        "until its deadline nodes had a passing fault, as full shared memory",
    ),
    Reason.DATABASE_UNAVAILABLE: _later(503, Outcome.REFUSED, 2, "Postgres is away or read-only"),
    Reason.SCHEDULER_UNAVAILABLE: _later(
        503, Outcome.DEADLINE, 5, "no scheduler leads, or it cannot reach Postgres"
    ),
    Reason.BUS_UNAVAILABLE: _later(503, Outcome.REFUSED, 2, "NATS is away"),
    Reason.OBJECT_STORE_UNAVAILABLE: _later(503, Outcome.REFUSED, 2, "the object store is away"),
    Reason.SHUTTING_DOWN: _later(503, Outcome.GATEWAY_LOST, 1, "this gateway is shutting down"),
    Reason.GATEWAY_LOST: _later(
        503, Outcome.GATEWAY_LOST, 1, "the request's gateway was cut off, or has forgotten it"
    ),
    Reason.DEADLINE_EXCEEDED: _never(
        504, Outcome.DEADLINE, "its deadline passed before the answer was complete"
    ),
    Reason.WORKER_CRASHED: _once(
        500,
        Outcome.WORKER_CRASHED,
        "four engines crashed, or three nodes were lost, under it",
    ),
    Reason.WORKER_ERROR: _never(500, Outcome.INTERNAL_ERROR, "the worker that served it failed"),
    Reason.CLIENT_TOO_SLOW: _never(500, Outcome.CLIENT_TOO_SLOW, "the stream was not read"),
    Reason.CANCELLED: _never(500, Outcome.INTERNAL_ERROR, "its worker was told to cancel it"),
    Reason.ENDED: _never(500, Outcome.INTERNAL_ERROR, "it is on record as ended"),
    Reason.INTERNAL_ERROR: _never(500, Outcome.INTERNAL_ERROR, "an error of the software"),
}
