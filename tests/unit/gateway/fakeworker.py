"""A worker that speaks over a bus as the real one's agent does, and misbehaves on demand."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    Acknowledged,
    AcknowledgeFinish,
    CancelRequest,
    Generate,
    GenerateReply,
    Logprob,
    ResendReply,
    ResendTokens,
    TokensGenerated,
)
from libs.common.bus.subjects import (
    ENDPOINT_ACKNOWLEDGE,
    ENDPOINT_CANCEL,
    ENDPOINT_GENERATE,
    ENDPOINT_RESEND,
    REQUEST_TOKENS,
)
from libs.common.states import FinishReason
from tests.unit.gateway.tiny import END_ID, ids_of

ANSWER = "Hello, wörld!"


@dataclass
class FakeWorker:
    """Answers every request with `answer_ids`, going on after what was generated already."""

    bus: Bus
    endpoint_id: str = "ep-1"
    answer_ids: tuple[int, ...] = (*ids_of(ANSWER), END_ID)
    finish: FinishReason = FinishReason.STOP
    replies: list[str] = field(default_factory=list)  # to the next generates, then accepted
    pause_after: int | None = None  # tokens; then it waits for `go_on`
    is_mute: bool = False  # takes what it is asked, and does not say so
    skip_publishing: Callable[[TokensGenerated], bool] = field(default=lambda _message: False)
    generated: list[Generate] = field(default_factory=list)
    cancelled: list[CancelRequest] = field(default_factory=list)
    acknowledged: list[AcknowledgeFinish] = field(default_factory=list)
    resends: list[ResendTokens] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    _running: dict[str, Generate] = field(default_factory=dict)
    _made: dict[str, int] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _subscriptions: list[Any] = field(default_factory=list)

    async def start(self) -> None:
        for subject, handler in (
            (ENDPOINT_GENERATE, self._on_generate),
            (ENDPOINT_RESEND, self._on_resend),
            (ENDPOINT_CANCEL, self._on_cancel),
            (ENDPOINT_ACKNOWLEDGE, self._on_acknowledge),
        ):
            subscription = await self.bus.subscribe(subject, self.endpoint_id, handler)
            self._subscriptions.append(subscription)

    async def die(self) -> None:
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        for task in self._tasks:
            task.cancel()

    async def _on_generate(self, message: Generate) -> GenerateReply | None:
        self.generated.append(message)
        if self.replies:
            return GenerateReply(result=self.replies.pop(0))  # type: ignore[arg-type] # the test's word
        if message.request_id not in self._running:
            self._running[message.request_id] = message
            task = asyncio.create_task(self._generate(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return None if self.is_mute else GenerateReply(result="accepted")

    async def _generate(self, message: Generate) -> None:
        first = len(message.generated_ids)
        end = min(len(self.answer_ids), message.sampling.max_tokens)
        for index in range(first, end):
            if self.pause_after is not None and index >= self.pause_after:
                await self.go_on.wait()
            self._made[message.request_id] = index + 1
            tokens = self._tokens(message, index, index + 1)
            if not self.skip_publishing(tokens):
                await self.bus.publish(REQUEST_TOKENS, message.request_id, tokens)

    def _tokens(self, message: Generate, start: int, end: int) -> TokensGenerated:
        limit = min(len(self.answer_ids), message.sampling.max_tokens)
        is_cut = message.sampling.max_tokens < len(self.answer_ids)
        finish = FinishReason.LENGTH if is_cut else self.finish
        ids = self.answer_ids[start:end]
        wanted = message.sampling.num_logprobs
        return TokensGenerated(
            request_id=message.request_id,
            attempt=message.attempt,
            start_index=start,
            ids=ids,
            logprobs=None if wanted is None else tuple(_logprob(i, wanted) for i in ids),
            finish=finish if end == limit else None,
        )

    async def _on_resend(self, message: ResendTokens) -> ResendReply:
        self.resends.append(message)
        running = self._running.get(message.request_id)
        if running is None or running.attempt != message.attempt:
            return ResendReply(known=False)
        made = self._made.get(message.request_id, 0)
        if made > message.from_index:
            tokens = self._tokens(running, message.from_index, made)
            await self.bus.publish(REQUEST_TOKENS, message.request_id, tokens)
        return ResendReply(known=True, next_index=made)

    async def _on_cancel(self, message: CancelRequest) -> Acknowledged:
        self.cancelled.append(message)
        return Acknowledged(known=message.request_id in self._running)

    async def _on_acknowledge(self, message: AcknowledgeFinish) -> Acknowledged:
        self.acknowledged.append(message)
        return Acknowledged(known=True)


def _logprob(token_id: int, num_top: int) -> Logprob:
    return Logprob(logprob=-0.5, top=((token_id, -0.5), (token_id + 1, -1.5))[:num_top])
