"""What the gateway answers when it does not answer with tokens.

GatewayError
├── ApiError                  becomes an OpenAI-style error with its reason's status, or an event
│   ├── NotServed             a sound request that is not served, for a reason of the table
│   │   └── TenantLimited     429  the caller's tenant holds as much as it may
│   └── RequestError          the request itself is at fault; `code` says it finer than the reason
│       ├── InvalidRequest        400  it can never work as it is; `param` names the culprit
│       ├── Unauthorized          401  no key, or one that is not known
│       ├── Forbidden             403  the key's tenant may not do that
│       ├── NotFound              404  no such path or thing (a model: NotServed)
│       ├── MethodNotAllowed      405
│       ├── RequestTimeout        408  the body did not arrive in time
│       ├── Conflict              409  the name is taken
│       ├── PayloadTooLarge       413
│       └── UnsupportedMediaType  415
├── ClientGone                the client closed its connection
├── TemplateFailed            a chat template raised, or used too much time, memory or output
├── MessagesRefused           messages that cannot be told from the template's own text
├── PromptTooLong             a prompt of more characters than the context could hold as tokens
├── ChildFailed               a child process died, or was too late
└── TokenizerFailed           a model's tokenizer files are not what its manifest says
    └── TokenizerOverrun      a prompt took more time or memory than it may

Statuses, and whether clients come again, are in the table of `libs/common/reasons.py`.
"""

from typing import ClassVar

from libs.common.errors import HydraError
from libs.common.reasons import REASON_HEADER, ClientRetry, Reason
from libs.common.states import RequestOutcome

# OpenAI's `type` of an error, by status; its clients look at the status first.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class GatewayError(HydraError):
    pass


class ApiError(GatewayError):
    """`code` is what OpenAI's clients know: the reason's name, or something finer."""

    def __init__(
        self,
        message: str,
        reason: Reason,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        self.message, self.reason, self.param = message, reason, param
        self.code = code or reason.value
        rule = reason.row.retry_after
        self.retry_after_s = None if rule is None else retry_after_s or rule.default_s
        super().__init__(message)

    @property
    def status(self) -> int:
        return self.reason.row.status

    @property
    def kind(self) -> str:
        return _TYPES.get(self.status, "invalid_request_error")

    @property
    def outcome(self) -> RequestOutcome:
        """What the request's row says when this ended it."""
        return self.reason.row.outcome

    @property
    def headers(self) -> dict[str, str]:
        headers = {REASON_HEADER: self.reason.value}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.reason.row.retry is ClientRetry.NEVER:
            headers["X-Should-Retry"] = "false"
        return headers


class NotServed(ApiError):
    """`retry_after_s` matters only for reasons that say when to come again."""

    def __init__(
        self,
        message: str,
        reason: Reason,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message, reason, param=param, retry_after_s=retry_after_s)


class TenantLimited(NotServed):
    """`limit` is how many requests the tenant may have there, as OpenAI's clients are told it."""

    def __init__(self, message: str, *, limit: int, retry_after_s: int | None) -> None:
        super().__init__(message, Reason.TENANT_LIMIT, retry_after_s=retry_after_s)
        self.limit = limit

    @property
    def headers(self) -> dict[str, str]:
        return {
            **super().headers,
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": f"{self.retry_after_s}s",
        }


class RequestError(ApiError):
    its_reason: ClassVar[Reason]

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message, self.its_reason, code=code, param=param)


class InvalidRequest(RequestError):
    its_reason = Reason.INVALID_REQUEST


class Unauthorized(RequestError):
    its_reason = Reason.INVALID_API_KEY


class Forbidden(RequestError):
    its_reason = Reason.FORBIDDEN


class NotFound(RequestError):
    its_reason = Reason.NOT_FOUND


class MethodNotAllowed(RequestError):
    its_reason = Reason.METHOD_NOT_ALLOWED

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message, code="method_not_allowed")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "Allow": self.allowed}


class RequestTimeout(RequestError):
    its_reason = Reason.REQUEST_TIMEOUT


class Conflict(RequestError):
    its_reason = Reason.CONFLICT


class PayloadTooLarge(RequestError):
    its_reason = Reason.PAYLOAD_TOO_LARGE


class UnsupportedMediaType(RequestError):
    its_reason = Reason.UNSUPPORTED_MEDIA_TYPE


class ClientGone(GatewayError):
    pass


class TemplateFailed(GatewayError):
    """The message is safe to show to the client; it never holds the prompt."""


class MessagesRefused(GatewayError):
    pass


class PromptTooLong(GatewayError):
    pass


class ChildFailed(GatewayError):
    """`is_own_fault`: what was asked of it killed it, so it would again."""

    def __init__(self, cause: str, *, is_own_fault: bool) -> None:
        self.is_own_fault = is_own_fault
        super().__init__(cause)


class TokenizerFailed(GatewayError):
    pass


class TokenizerOverrun(TokenizerFailed):
    pass
