"""Calls one endpoint's entry worker; every way in which it may not answer has a name."""

from dataclasses import dataclass
from enum import Enum
from typing import cast

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    AcknowledgeFinish,
    CancelRequest,
    Generate,
    GenerateReply,
    Message,
    ResendReply,
    ResendTokens,
)
from libs.common.bus.subjects import (
    ENDPOINT_ACKNOWLEDGE,
    ENDPOINT_CANCEL,
    ENDPOINT_GENERATE,
    ENDPOINT_RESEND,
    Subject,
)
from libs.common.errors import BusError, BusNoResponders, BusPayloadTooLarge
from services.gateway.errors import InvalidRequest


class GenerateResult(Enum):
    """What became of a `generate`."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # busy, draining, or another epoch: ask somebody else
    ENDED = "ended"  # this attempt was there, and has ended: go on with the next one
    STALE_CONTEXT = "stale_context"  # shorter than its model's is now; another one will come
    ABSENT = "absent"  # nobody listens: it is not up yet, or gone
    UNANSWERED = "unanswered"  # it may have taken the request, or not


class Liveness(Enum):
    """What an endpoint knows of a request."""

    ALIVE = "alive"  # it has it, and sends again what was asked for
    UNKNOWN = "unknown"  # it has no such request
    SILENT = "silent"  # no answer


@dataclass(frozen=True)
class EndpointClient:
    bus: Bus
    endpoint_id: str
    epoch: int
    timeout_s: float

    async def generate(self, message: Generate) -> GenerateResult:
        """Raises InvalidRequest when it can never serve this request."""
        try:
            reply = cast("GenerateReply", await self._request(ENDPOINT_GENERATE, message))
        except BusPayloadTooLarge as exc:
            text = f"the prompt is too long to be sent: {exc}"
            raise InvalidRequest(text, code="prompt_too_long", param="messages") from exc
        except BusNoResponders:
            return GenerateResult.ABSENT
        except BusError:
            return GenerateResult.UNANSWERED
        if reply.result == "refused":
            raise InvalidRequest(reply.message, code="request_refused", param="messages")
        if reply.result == "stale_context":
            return GenerateResult.STALE_CONTEXT
        if reply.result == "ended":
            return GenerateResult.ENDED
        return GenerateResult.ACCEPTED if reply.result == "accepted" else GenerateResult.REFUSED

    async def resend(self, request_id: str, attempt: int, from_index: int) -> Liveness:
        message = ResendTokens(request_id=request_id, attempt=attempt, from_index=from_index)
        try:
            reply = cast("ResendReply", await self._request(ENDPOINT_RESEND, message))
        except BusError:
            return Liveness.SILENT
        return Liveness.ALIVE if reply.known else Liveness.UNKNOWN

    async def cancel(self, request_id: str, attempt: int) -> None:
        """Returns when it answered. Raises BusError."""
        await self._request(ENDPOINT_CANCEL, CancelRequest(request_id=request_id, attempt=attempt))

    async def acknowledge(self, request_id: str, attempt: int) -> None:
        """Returns when it answered. Raises BusError."""
        message = AcknowledgeFinish(request_id=request_id, attempt=attempt)
        await self._request(ENDPOINT_ACKNOWLEDGE, message)

    async def _request(self, subject: Subject, message: Message) -> Message:
        return await self.bus.request(subject, self.endpoint_id, message, timeout_s=self.timeout_s)
