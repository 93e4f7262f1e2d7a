"""What the gateway answers when it does not answer with tokens.

GatewayError
├── ApiError                  becomes an OpenAI-style error with its status, or an error event
│   ├── InvalidRequest        400  the request can never work as it is; `param` names the culprit
│   ├── Unauthorized          401  no key, or one that is not known
│   ├── Forbidden             403  the key's tenant may not do that
│   ├── NotFound              404
│   ├── RequestTimeout        408  the body did not arrive in time
│   ├── Conflict              409  the name is taken
│   ├── PayloadTooLarge       413
│   ├── UnsupportedMediaType  415
│   ├── Overloaded            429  the model's queue or this gateway is full; try again
│   │   └── TenantLimited     429  the caller's tenant holds as much as it may
│   ├── InternalError         500  a bug of ours, or a request that kills workers
│   ├── Unavailable           503  something it needs is not there; try again
│   └── DeadlineExceeded      504  the request's own deadline passed
├── ClientGone                the client closed its connection
├── TemplateFailed            a chat template raised, or used too much time, memory or output
└── TokenizerFailed           a model's tokenizer files are not what its manifest says
"""

from libs.common.errors import HydraError
from libs.common.states import RequestOutcome


class GatewayError(HydraError):
    pass


class ApiError(GatewayError):
    """`outcome` is what the request's row says when this ended it."""

    status = 500
    kind = "server_error"
    outcome = RequestOutcome.INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_s: int | None = None,
        outcome: RequestOutcome | None = None,
    ) -> None:
        self.message, self.code, self.param = message, code, param
        self.retry_after_s = retry_after_s
        if outcome is not None:
            self.outcome = outcome
        super().__init__(message)

    @property
    def headers(self) -> dict[str, str]:
        """A server error without Retry-After would fail again: clients must not repeat it."""
        if self.retry_after_s is not None:
            return {"Retry-After": str(self.retry_after_s)}
        return {"X-Should-Retry": "false"} if self.status >= 500 else {}


class InvalidRequest(ApiError):
    status, kind = 400, "invalid_request_error"


class Unauthorized(ApiError):
    status, kind = 401, "authentication_error"


class Forbidden(ApiError):
    status, kind = 403, "permission_error"


class NotFound(ApiError):
    status, kind = 404, "invalid_request_error"


class RequestTimeout(ApiError):
    status, kind = 408, "timeout_error"


class Conflict(ApiError):
    status, kind = 409, "invalid_request_error"


class PayloadTooLarge(ApiError):
    status, kind = 413, "invalid_request_error"


class UnsupportedMediaType(ApiError):
    status, kind = 415, "invalid_request_error"


class Overloaded(ApiError):
    status, kind = 429, "rate_limit_error"


class TenantLimited(Overloaded):
    """`limit` is how many requests the tenant may have there, as OpenAI's clients are told it."""

    def __init__(self, message: str, *, limit: int, retry_after_s: int) -> None:
        super().__init__(message, code="tenant_limit", retry_after_s=retry_after_s)
        self.limit = limit

    @property
    def headers(self) -> dict[str, str]:
        return {
            **super().headers,
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": f"{self.retry_after_s}s",
        }


class InternalError(ApiError):
    status, kind = 500, "server_error"


class Unavailable(ApiError):
    status, kind = 503, "service_unavailable_error"


class DeadlineExceeded(ApiError):
    status, kind, outcome = 504, "timeout_error", RequestOutcome.DEADLINE


class ClientGone(GatewayError):
    pass


class TemplateFailed(GatewayError):
    """The message is safe to show to the client; it never holds the prompt."""


class TokenizerFailed(GatewayError):
    pass
