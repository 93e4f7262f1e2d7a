"""The bridge over a bus in memory, with a list where the worker would be."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from libs.common.bus.handling import Handler, M, OnMalformed
from libs.common.bus.message_hold import MessageHold
from libs.common.bus.messages import (
    Acknowledged,
    AcknowledgeFinish,
    CancelRequest,
    Generate,
    GenerateReply,
    ResendReply,
    ResendTokens,
    TokensGenerated,
    WorkerSpec,
)
from libs.common.bus.subjects import (
    ENDPOINT_ACKNOWLEDGE,
    ENDPOINT_CANCEL,
    ENDPOINT_GENERATE,
    ENDPOINT_RESEND,
    REQUEST_TOKENS,
    Subject,
)
from libs.common.errors import BusError, BusNoResponders
from libs.common.states import FinishReason
from libs.common.testing.bus import FakeClock, MemoryBroker, MemoryBus, MemorySubscription
from services.worker.agent.requests.bridge import Bridge
from services.worker.agent.requests.prompt_assembler import PromptMemory
from services.worker.agent.requests.publisher import MAX_OUTGOING, MAX_OUTGOING_VALUES
from services.worker.agent.requests.refusals import MAX_WAITING
from services.worker.agent.requests.token_log import KEEP_FINISHED_S, RESEND_TOKENS
from services.worker.frames.frames import (
    CancelGeneration,
    GenerateTokens,
    TokenLogprob,
    TokensProduced,
    ToWorker,
)
from tests.unit.worker.values import generate, worker_spec


class RefusingBus(MemoryBus):
    """Goes away between two subscriptions."""

    def __init__(self, broker: MemoryBroker, num_allowed: int) -> None:
        super().__init__(broker)
        self.num_allowed = num_allowed

    async def subscribe(
        self,
        subject: Subject,
        token: str | None,
        handler: Handler[M],
        *,
        concurrency: int = 1,
        on_malformed: OnMalformed | None = None,
        hold: MessageHold | None = None,
    ) -> MemorySubscription:
        if self.num_allowed == 0:
            raise BusError(subject.of(token), "connection closed")
        self.num_allowed -= 1
        return await super().subscribe(subject, token, handler, concurrency=concurrency)


def of_tokens(num_prompt_tokens: int, max_tokens: int) -> Generate:
    message = generate(prompt_ids=tuple(range(num_prompt_tokens)))
    sampling = replace(message.sampling, max_tokens=max_tokens)
    return message.model_copy(update={"sampling": sampling})


@dataclass
class Stage:
    """A bridge between a gateway's bus and a worker that only remembers."""

    spec: WorkerSpec
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    clock: FakeClock = field(default_factory=FakeClock)
    sent: list[ToWorker] = field(default_factory=list)
    tokens: "asyncio.Queue[TokensGenerated]" = field(default_factory=asyncio.Queue)
    said: list[str] = field(default_factory=list)  # to the agent
    memory: PromptMemory = field(default_factory=PromptMemory)

    def __post_init__(self) -> None:
        self.gateway: MemoryBus = self.broker.bus()
        self.bridge = Bridge(
            self.spec,
            bus=self.broker.bus(),
            clock=self.clock,
            send=self.sent.append,
            load_changed=lambda: self.said.append("load changed"),
            slot_freed=lambda: self.said.append("slot freed"),
            prompt_memory=self.memory,
        )

    async def open(self) -> None:
        await self.bridge.open()
        await self.gateway.subscribe(REQUEST_TOKENS, None, self._take)

    async def _take(self, tokens: TokensGenerated) -> None:
        self.tokens.put_nowait(tokens)

    async def until_published(self, num_tokens_messages: int) -> None:
        """Lost or not."""
        async with asyncio.timeout(2):
            while self._num_published() < num_tokens_messages:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)

    def _num_published(self) -> int:
        return sum(isinstance(message, TokensGenerated) for _, message in self.broker.published)

    async def generate(self, message: Generate) -> str:
        reply = await self.gateway.request(ENDPOINT_GENERATE, "endpoint-a", message, timeout_s=1)
        assert isinstance(reply, GenerateReply)
        return reply.result

    async def resend(self, from_index: int, request_id: str = "request-a") -> ResendReply:
        message = ResendTokens(request_id=request_id, attempt=1, from_index=from_index)
        reply = await self.gateway.request(ENDPOINT_RESEND, "endpoint-a", message, timeout_s=1)
        assert isinstance(reply, ResendReply)
        return reply

    async def cancel(self, attempt: int = 1) -> bool:
        message = CancelRequest(request_id="request-a", attempt=attempt)
        reply = await self.gateway.request(ENDPOINT_CANCEL, "endpoint-a", message, timeout_s=1)
        assert isinstance(reply, Acknowledged)
        return reply.known

    async def acknowledge(self) -> bool:
        message = AcknowledgeFinish(request_id="request-a", attempt=1)
        reply = await self.gateway.request(ENDPOINT_ACKNOWLEDGE, "endpoint-a", message, timeout_s=1)
        assert isinstance(reply, Acknowledged)
        return reply.known

    async def next_tokens(self) -> TokensGenerated:
        return await asyncio.wait_for(self.tokens.get(), 1)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage(worker_spec())
    await stage.open()
    yield stage
    await stage.bridge.close()
    await stage.gateway.close()


def produced(start_index: int, *ids: int, finish: FinishReason | None = None) -> TokensProduced:
    return TokensProduced("request-a", 1, start_index, ids, None, finish)


async def test_a_request_goes_to_the_worker_and_its_tokens_to_the_gateway(stage: Stage) -> None:
    assert await stage.generate(generate()) == "accepted"
    (frame,) = stage.sent
    assert isinstance(frame, GenerateTokens)
    assert (frame.request_id, tuple(frame.prompt_ids), frame.sampling.seed) == (
        "request-a",
        (1, 2, 3),
        7,
    )

    stage.bridge.take_tokens(produced(0, 42))

    tokens = await stage.next_tokens()
    assert (tokens.start_index, tokens.ids, tokens.finish) == (0, (42,), None)


async def test_a_repeated_generate_is_accepted_and_runs_once(stage: Stage) -> None:
    assert await stage.generate(generate()) == "accepted"
    assert await stage.generate(generate()) == "accepted"
    assert len(stage.sent) == 1


async def test_a_newer_attempt_cancels_the_older_one(stage: Stage) -> None:
    await stage.generate(generate())
    assert await stage.generate(generate(attempt=2, generated_ids=(9,))) == "accepted"

    assert stage.sent[1] == CancelGeneration("request-a", 1)
    assert isinstance(stage.sent[2], GenerateTokens)
    assert stage.bridge.num_unfinished == 1
    assert await stage.generate(generate()) == "ended"


@pytest.mark.parametrize(
    ("message", "result"),
    [
        pytest.param(generate(epoch=2), "stale_epoch", id="of another epoch"),
        pytest.param(of_tokens(64, 1), "stale_context", id="fills the context"),
        pytest.param(of_tokens(32, 33), "stale_context", id="would fill it before its end"),
        pytest.param(of_tokens(32, 32), "accepted", id="just fits"),
    ],
)
async def test_what_cannot_be_executed_is_refused_at_once(
    stage: Stage, message: Generate, result: str
) -> None:
    assert await stage.generate(message) == result
    assert len(stage.sent) == (1 if result == "accepted" else 0)


async def test_more_than_the_slots_and_a_short_queue_is_busy(stage: Stage) -> None:
    room = stage.spec.max_slots + MAX_WAITING
    for number in range(room):
        assert await stage.generate(generate(f"request-{number}")) == "accepted"

    assert await stage.generate(generate("request-z")) == "busy"

    stage.bridge.take_tokens(TokensProduced("request-0", 1, 0, (), None, FinishReason.STOP))
    assert await stage.generate(generate("request-z")) == "accepted"


async def test_a_draining_endpoint_takes_nothing_new_but_ends_what_runs(stage: Stage) -> None:
    await stage.generate(generate())
    stage.bridge.spec = stage.spec.model_copy(update={"is_draining": True})

    assert await stage.generate(generate("request-b")) == "draining"
    assert await stage.generate(generate()) == "accepted"  # said twice, runs already
    stage.bridge.take_tokens(produced(0, 1, finish=FinishReason.STOP))
    assert (await stage.next_tokens()).finish is FinishReason.STOP


async def test_tokens_lost_on_the_bus_are_sent_again_on_request(stage: Stage) -> None:
    await stage.generate(generate())
    stage.broker.is_down = True
    stage.bridge.take_tokens(produced(0, 1))
    stage.bridge.take_tokens(produced(1, 2, finish=FinishReason.STOP))
    await stage.until_published(2)
    stage.broker.is_down = False

    reply = await stage.resend(0)

    assert (reply.known, reply.next_index) == (True, 2)
    tokens = await stage.next_tokens()
    assert (tokens.ids, tokens.finish) == ((1, 2), FinishReason.STOP)


async def test_an_unknown_request_is_not_known_to_resend(stage: Stage) -> None:
    assert await stage.resend(0, "request-x") == ResendReply(known=False)


async def test_tokens_are_forgotten_when_their_end_is_acknowledged_and_not_before(
    stage: Stage,
) -> None:
    await stage.generate(generate())
    assert await stage.acknowledge()  # too early: known, kept
    assert (await stage.resend(0)).known
    stage.bridge.take_tokens(produced(0, 1, finish=FinishReason.STOP))

    assert await stage.acknowledge()

    assert not (await stage.resend(0)).known
    assert not await stage.acknowledge()
    assert await stage.generate(generate()) == "ended"  # a late repetition starts nothing


async def test_a_cancelled_request_ends_at_once_even_if_the_worker_does_not_move(
    stage: Stage,
) -> None:
    await stage.generate(generate())
    stage.bridge.take_tokens(produced(0, 1))

    assert await stage.cancel()
    assert await stage.cancel()

    assert stage.sent[1:] == [CancelGeneration("request-a", 1)]
    assert (await stage.next_tokens()).ids == (1,)
    end = await stage.next_tokens()
    assert (end.start_index, end.ids, end.finish) == (1, (), FinishReason.CANCELLED)
    stage.bridge.take_tokens(produced(1, 2))  # computed meanwhile: dropped
    assert (await stage.resend(0)).next_index == 1


async def test_a_cancel_that_overtakes_its_generate_still_counts(stage: Stage) -> None:
    assert not await stage.cancel()
    assert await stage.generate(generate()) == "ended"
    assert stage.sent == []


async def test_a_cancel_of_another_attempt_changes_nothing(stage: Stage) -> None:
    await stage.generate(generate())
    assert not await stage.cancel(attempt=2)
    assert stage.bridge.num_unfinished == 1


async def test_a_request_past_its_deadline_is_cancelled(stage: Stage) -> None:
    await stage.generate(generate(remaining_ms=1500))
    stage.clock.advance(1.4)
    stage.bridge.expire()
    assert stage.bridge.num_unfinished == 1

    stage.clock.advance(0.2)
    stage.bridge.expire()

    assert stage.bridge.num_unfinished == 0
    assert (await stage.next_tokens()).finish is FinishReason.CANCELLED
    assert stage.sent[-1] == CancelGeneration("request-a", 1)


async def test_tokens_of_a_request_that_was_never_assigned_are_dropped(stage: Stage) -> None:
    stage.bridge.take_tokens(TokensProduced("request-x", 1, 0, (1,)))
    stage.bridge.take_tokens(TokensProduced("request.*", 1, 0, (1,)))  # no id at all
    await stage.generate(generate())
    stage.bridge.take_tokens(produced(0, 1))
    assert (await stage.next_tokens()).request_id == "request-a"
    assert stage.tokens.empty()


async def test_an_end_that_frees_a_slot_of_a_full_endpoint_is_told_at_once(stage: Stage) -> None:
    for request_id in ("request-a", "request-b"):
        await stage.generate(generate(request_id))
    for request_id in ("request-a", "request-b"):
        stage.bridge.take_tokens(TokensProduced(request_id, 1, 0, (1,), None, FinishReason.STOP))
    assert stage.said == ["load changed", "load changed", "slot freed", "load changed"]


async def test_an_end_that_a_drain_waits_for_is_told_at_once(stage: Stage) -> None:
    await stage.generate(generate())
    stage.bridge.spec = stage.spec.model_copy(update={"is_draining": True})
    stage.bridge.take_tokens(produced(0, 1, finish=FinishReason.STOP))
    assert stage.said == ["load changed", "slot freed"]


async def test_tokens_that_leave_a_gap_end_their_request_with_an_error(stage: Stage) -> None:
    await stage.generate(generate())
    stage.bridge.take_tokens(produced(1, 5))
    end = await stage.next_tokens()
    assert (end.finish, end.ids) == (FinishReason.ERROR, ())
    assert end.error is not None and "index 1 where 0 was due" in end.error
    assert stage.sent[-1] == CancelGeneration("request-a", 1)


async def test_a_bus_that_does_not_move_holds_nothing_up(stage: Stage) -> None:
    await stage.generate(generate())
    for index in range(MAX_OUTGOING + 10):  # no await: the publisher cannot run in between
        stage.bridge.take_tokens(produced(index, index))

    received: list[int] = []
    for _ in range(MAX_OUTGOING):
        received.extend((await stage.next_tokens()).ids)
    assert (await stage.resend(len(received))).next_index == MAX_OUTGOING + 10
    received.extend((await stage.next_tokens()).ids)

    assert received == list(range(MAX_OUTGOING + 10))


async def test_a_resend_with_alternatives_waits_in_bounded_memory_and_comes_in_parts(
    stage: Stage,
) -> None:
    await stage.generate(generate())
    await stage.generate(generate("request-b"))
    logprob = TokenLogprob(-0.5, tuple((i, -float(i)) for i in range(20)))
    for index in range(7000):
        stage.bridge.take_tokens(TokensProduced("request-a", 1, index, (index,), (logprob,)))
    for _ in range(MAX_OUTGOING):
        await stage.next_tokens()

    await stage.resend(0)
    stage.bridge.take_tokens(TokensProduced("request-b", 1, 0, (1,)))  # waits behind it
    received: list[int] = []
    while (tokens := await stage.next_tokens()).request_id == "request-a":
        received.extend(tokens.ids)
    num_at_once = MAX_OUTGOING_VALUES // 21
    assert num_at_once - RESEND_TOKENS < len(received) <= num_at_once

    await stage.resend(len(received))
    while len(received) < 7000:
        received.extend((await stage.next_tokens()).ids)
    assert received == list(range(7000))


async def test_when_the_worker_dies_running_requests_are_unknown_and_ended_ones_kept(
    stage: Stage,
) -> None:
    await stage.generate(generate())
    await stage.generate(generate("request-b"))
    stage.bridge.take_tokens(produced(0, 1, finish=FinishReason.STOP))

    await stage.bridge.worker_gone()

    assert (await stage.resend(0)).known
    assert not (await stage.resend(0, "request-b")).known
    with pytest.raises(BusNoResponders):
        await stage.generate(generate("request-c"))
    assert not stage.bridge.is_over
    await stage.acknowledge()
    assert stage.bridge.is_over


async def test_an_end_that_nobody_acknowledges_is_kept_for_a_minute(stage: Stage) -> None:
    await stage.generate(generate())
    stage.bridge.take_tokens(produced(0, 1, finish=FinishReason.STOP))
    await stage.bridge.worker_gone()
    stage.clock.advance(KEEP_FINISHED_S)
    stage.bridge.expire()
    assert stage.bridge.is_over


async def test_an_end_is_kept_as_long_as_its_reader_asks_for_what_was_lost(stage: Stage) -> None:
    await stage.generate(generate())
    stage.bridge.take_tokens(produced(0, 1, finish=FinishReason.STOP))
    await stage.bridge.worker_gone()
    for _ in range(3):
        stage.clock.advance(KEEP_FINISHED_S - 1)
        stage.bridge.expire()
        assert (await stage.resend(0)).known
    assert not stage.bridge.is_over


async def test_idle_time_counts_from_readiness_and_from_the_last_end(stage: Stage) -> None:
    stage.clock.advance(5)
    assert stage.bridge.idle_ms == 0
    stage.bridge.mark_serving()
    stage.clock.advance(2)
    assert stage.bridge.idle_ms == 2000
    await stage.generate(generate())
    assert stage.bridge.idle_ms == 0
    stage.clock.advance(3)
    stage.bridge.take_tokens(produced(0, finish=FinishReason.STOP))
    stage.clock.advance(1)
    assert stage.bridge.idle_ms == 1000


@pytest.mark.parametrize("num_allowed", range(5))
async def test_a_bridge_that_cannot_listen_to_everything_listens_to_nothing(
    num_allowed: int,
) -> None:
    broker, clock = MemoryBroker(), FakeClock()
    bus = RefusingBus(broker, num_allowed)
    bridge = Bridge(
        worker_spec(),
        bus=bus,
        clock=clock,
        send=lambda _: None,
        load_changed=lambda: None,
        slot_freed=lambda: None,
        prompt_memory=PromptMemory(),
    )

    with pytest.raises(BusError, match="connection closed"):
        await bridge.open()

    assert broker.subscriptions == []
