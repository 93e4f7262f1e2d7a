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
    PromptPart,
    ResendReply,
    ResendTokens,
)
from libs.common.bus.prompt_parts import fits_into_one_message, parts_of, without_ids
from libs.common.bus.subjects import (
    ENDPOINT_ACKNOWLEDGE,
    ENDPOINT_CANCEL,
    ENDPOINT_GENERATE,
    ENDPOINT_PROMPT,
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
    NO_ROOM = "no_room"  # other long prompts are on their way there: try again
    ABSENT = "absent"  # nobody listens: it is not up yet, or gone
    UNANSWERED = "unanswered"  # it may have taken the request, or not
    # Within the client, of prompts in parts.
    KEPT = "kept"
    INCOMPLETE = "incomplete"


_RESULTS = {
    "accepted": GenerateResult.ACCEPTED,
    "ended": GenerateResult.ENDED,
    "stale_context": GenerateResult.STALE_CONTEXT,
    "no_room": GenerateResult.NO_ROOM,
    "kept": GenerateResult.KEPT,
    "incomplete": GenerateResult.INCOMPLETE,
}
_MAX_TRIES = 3  # of each part that is not answered, and of a prompt whose parts are missing


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
        if fits_into_one_message(message):
            return await self._ask(ENDPOINT_GENERATE, message)
        for _ in range(_MAX_TRIES):
            result = await self._send_parts(message)
            if result is GenerateResult.KEPT:
                result = await self._ask(ENDPOINT_GENERATE, without_ids(message))
            if result is not GenerateResult.INCOMPLETE:
                return result
        return GenerateResult.NO_ROOM

    async def _send_parts(self, message: Generate) -> GenerateResult:
        """KEPT if all were; else what became of the first that was not."""
        for part in parts_of(message):
            for _ in range(_MAX_TRIES):
                result = await self._ask(ENDPOINT_PROMPT, part)
                if result is not GenerateResult.UNANSWERED:
                    break
            if result is GenerateResult.UNANSWERED:
                return GenerateResult.ABSENT  # it was asked for nothing yet
            if result is not GenerateResult.KEPT:
                return result
        return GenerateResult.KEPT

    async def _ask(self, subject: Subject, message: Generate | PromptPart) -> GenerateResult:
        """Raises InvalidRequest."""
        try:
            reply = cast("GenerateReply", await self._request(subject, message))
        except BusPayloadTooLarge as exc:
            text = f"the request is too large to be sent: {exc}"
            raise InvalidRequest(text, code="request_too_large", param="messages") from exc
        except BusNoResponders:
            return GenerateResult.ABSENT
        except BusError:
            return GenerateResult.UNANSWERED
        if reply.result == "refused":
            raise InvalidRequest(reply.message, code="request_refused", param="messages")
        return _RESULTS.get(reply.result, GenerateResult.REFUSED)

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
