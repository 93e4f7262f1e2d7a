"""Bridges the bus and one entry worker: requests in, tokens out, nothing that is not its own.

It listens from the launch on, so requests may come before the worker can run them. Publishing
never holds up the worker: what does not fit into the outgoing queue is left out, and the gateway,
which sees the gap, asks for it again from the token log.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator

from pydantic import ValidationError

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    Acknowledged,
    AcknowledgeFinish,
    CancelRequest,
    Generate,
    GenerateReply,
    PromptPart,
    ResendReply,
    ResendTokens,
    TokensGenerated,
    UnacknowledgedEnd,
    WorkerSpec,
)
from libs.common.bus.subjects import (
    ENDPOINT_ACKNOWLEDGE,
    ENDPOINT_CANCEL,
    ENDPOINT_GENERATE,
    ENDPOINT_PROMPT,
    ENDPOINT_RESEND,
)
from libs.common.cancellation import cancel_all
from libs.common.clock import Clock
from libs.common.states import FinishReason
from services.worker.agent.requests.endpoint_subscriptions import EndpointSubscriptions
from services.worker.agent.requests.prompt_assembler import PromptAssembler, PromptMemory
from services.worker.agent.requests.publisher import TokenPublisher
from services.worker.agent.requests.refusals import MAX_WAITING, Asked, refusal_of
from services.worker.agent.requests.request_spans import RequestSpans
from services.worker.agent.requests.token_log import RequestLog, TokenLog
from services.worker.agent.translate import generate_frame, tokens_message
from services.worker.frames.frames import CancelGeneration, TokensProduced, ToWorker

logger = logging.getLogger(__name__)


class Bridge:
    """`send` hands a frame to the worker; `load_changed` tells the agent that a request came or
    ended, `slot_freed` instead that one ended for whose end somebody may wait.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        bus: Bus,
        clock: Clock,
        send: Callable[[ToWorker], None],
        load_changed: Callable[[], None],
        slot_freed: Callable[[], None],
        prompt_memory: PromptMemory,
    ) -> None:
        self.spec = spec
        self.log = TokenLog()
        self.is_closed_to_new = False  # set when the worker has gone
        self._bus, self._clock, self._send = bus, clock, send
        self._load_changed, self._slot_freed = load_changed, slot_freed
        num_requests = spec.max_slots + MAX_WAITING
        self._prompts = PromptAssembler(prompt_memory, num_requests * spec.max_context_tokens)
        self._publisher = TokenPublisher(bus)
        self._publishing: asyncio.Task[None] | None = None
        self._spans = RequestSpans(spec.endpoint_id, clock)
        self._subscriptions = EndpointSubscriptions(bus, spec.endpoint_id)
        self._idle_since_s: float | None = None  # None until it can serve, or has served

    async def open(self) -> None:
        """Listen for this endpoint, or for nothing at all. Raises BusError."""
        endpoint = self.spec.endpoint_id
        try:
            await self._subscribe()
        except BaseException:
            await self.close()
            raise
        self._publishing = asyncio.create_task(self._publisher.run(), name=f"publish-{endpoint}")

    async def _subscribe(self) -> None:
        add = self._subscriptions.add
        await add(ENDPOINT_RESEND, self.resend)
        await add(ENDPOINT_CANCEL, self.cancel)
        await add(ENDPOINT_ACKNOWLEDGE, self.acknowledge)
        await add(ENDPOINT_PROMPT, self.keep_part, is_intake=True)
        await add(ENDPOINT_GENERATE, self.generate, is_intake=True)

    async def close(self) -> None:
        self._prompts.clear()
        await self._subscriptions.close()
        if self._publishing is not None:
            await cancel_all({self._publishing})

    @property
    def num_unfinished(self) -> int:
        return self.log.num_unfinished

    @property
    def idle_ms(self) -> int:
        """Since the last request ended, or since the endpoint could serve."""
        if self.num_unfinished or self._idle_since_s is None:
            return 0
        return int((self._clock.monotonic_s() - self._idle_since_s) * 1000)

    @property
    def is_over(self) -> bool:
        """Whether its worker is gone and every end was acknowledged or has expired."""
        return self.is_closed_to_new and not len(self.log)

    def unacknowledged(self) -> Iterator[UnacknowledgedEnd]:
        return self.log.unacknowledged(self._clock.monotonic_s())

    def mark_serving(self) -> None:
        """The worker is ready: idle time counts from here."""
        self._idle_since_s = self._clock.monotonic_s()

    # ------------------------------------------------------------ from the bus

    async def keep_part(self, part: PromptPart) -> GenerateReply:
        if self.log.find(part.request_id, part.attempt) is not None:
            return GenerateReply(result="accepted")  # its `generate` came
        refusal = self._refusal(Asked.by_part(part))
        if refusal is not None:
            return refusal
        return GenerateReply(result=self._prompts.put(part, self._clock.monotonic_s()))

    async def generate(self, message: Generate) -> GenerateReply:
        if self.log.find(message.request_id, message.attempt) is not None:
            return GenerateReply(result="accepted")  # said twice
        refusal = self._refusal(Asked.by_generate(message))
        if refusal is not None:
            return refusal
        prompt = self._prompts.take(message)
        if prompt is None:
            return GenerateReply(result="incomplete")
        self._replace_older(message)
        now_s = self._clock.monotonic_s()
        deadline_s = now_s + message.remaining_ms / 1000
        start_index = message.size.num_generated_ids
        self.log.open(message.request_id, message.attempt, start_index, deadline_s, now_s)
        self._spans.begin(message.request_id)
        self._send(generate_frame(message, prompt))
        self._load_changed()
        return GenerateReply(result="accepted")

    def _refusal(self, asked: Asked) -> GenerateReply | None:
        """Why this request is not taken, or None. What came of its prompt is needed no more."""
        refusal = refusal_of(asked, self.spec, self.log, is_closed_to_new=self.is_closed_to_new)
        if refusal is not None:
            self._prompts.drop(asked.request_id, asked.attempt)
        return refusal

    def _replace_older(self, message: Generate) -> None:
        older = self.log.older_attempt(message.request_id, message.attempt)
        if older is not None and not older.is_finished:
            self._send(CancelGeneration(older.request_id, older.attempt))
            self._spans.end(older, "replaced by a newer attempt")

    async def resend(self, message: ResendTokens) -> ResendReply:
        request = self.log.find(message.request_id, message.attempt)
        if request is None:
            return ResendReply(known=False)
        now_s = self._clock.monotonic_s()
        for part in self.log.since(request, message.from_index, now_s):
            if not self._publisher.put(part):
                break  # nor would what follows fit, and it is asked for again
        return ResendReply(known=True, next_index=request.next_index)

    async def cancel(self, message: CancelRequest) -> Acknowledged:
        request = self.log.find(message.request_id, message.attempt)
        self._prompts.drop(message.request_id, message.attempt)
        if request is None:
            # It may have overtaken its `generate`, which then must not start anything.
            self.log.mark_ended(message.request_id, message.attempt)
            return Acknowledged(known=False)
        if message.unread_ms is not None:
            request.note_unread_since(self._clock.monotonic_s() - message.unread_ms / 1000)
        self._cancel(request)
        return Acknowledged(known=True)

    async def acknowledge(self, message: AcknowledgeFinish) -> Acknowledged:
        request = self.log.find(message.request_id, message.attempt)
        if request is None or not request.is_finished:
            return Acknowledged(known=request is not None)
        return Acknowledged(known=self.log.forget(message.request_id, message.attempt))

    # --------------------------------------------------------- from the worker

    def take_tokens(self, frame: TokensProduced) -> None:
        """Keep and publish; what belongs to no live request of this endpoint is dropped."""
        try:
            tokens = tokens_message(frame)
        except ValidationError as exc:
            logger.error("%s: dropped malformed tokens: %s", self.spec.worker_id, exc.errors()[:1])
            return
        request = self.log.find(tokens.request_id, tokens.attempt)
        if request is None or request.is_finished:
            return  # ended here while the worker was computing: expected
        if not self.log.append(tokens, self._clock.monotonic_s()):
            self._break_off(request, tokens)
            return
        self._publisher.put(request.timed(tokens))
        if request.is_finished:
            self._request_ended(request)

    def _break_off(self, request: RequestLog, tokens: TokensGenerated) -> None:
        """Tokens that do not continue a request are a bug: its stream cannot be right any more."""
        error = f"tokens from index {tokens.start_index} where {request.next_index} was due"
        logger.error("%s: %s: %s", self.spec.worker_id, request.request_id, error)
        self._end(request, FinishReason.ERROR, error)

    # --------------------------------------------------------- from the agent

    def expire(self) -> None:
        """End requests past their deadline; forget ends that nobody acknowledges."""
        now_s = self._clock.monotonic_s()
        for request in self.log.unfinished():
            if request.deadline_s <= now_s:
                logger.info("%s: deadline passed", request.request_id)
                self._cancel(request)
        self.log.expire(now_s)
        self._prompts.expire(now_s)

    async def worker_gone(self) -> None:
        """Forget what cannot end here any more, so that the gateway asks in vain and resubmits.

        Finished requests stay: their last tokens may still have to be sent again.
        """
        self.is_closed_to_new = True
        self._prompts.clear()
        await self._subscriptions.stop_intake()
        for request in self.log.unfinished():
            self.log.forget(request.request_id, request.attempt)
            self._spans.end(request, "the worker ended")

    def _cancel(self, request: RequestLog) -> None:
        if not request.is_finished:
            self._end(request, FinishReason.CANCELLED)

    def _end(self, request: RequestLog, reason: FinishReason, error: str | None = None) -> None:
        """End it at once: the worker is told, but may be busy, or stopped."""
        self._send(CancelGeneration(request.request_id, request.attempt))
        self._publisher.put(self.log.finish(request, reason, self._clock.monotonic_s(), error))
        self._request_ended(request)

    def _request_ended(self, request: RequestLog) -> None:
        if not self.num_unfinished:
            self._idle_since_s = self._clock.monotonic_s()
        self._spans.end(request, request.error)
        was_full = self.num_unfinished == self.spec.max_slots - 1
        if was_full or self.spec.is_draining:
            self._slot_freed()
        else:
            self._load_changed()
