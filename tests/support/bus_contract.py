"""What every Bus does; run on the double and on NATS by subclasses with a `bus` fixture."""

import asyncio

import pytest

from libs.common.bus.bus import Bus
from libs.common.bus.message_hold import MessageHold
from libs.common.bus.messages import (
    Acknowledged,
    CancelRequest,
    GatewayHeartbeat,
    Generate,
    GenerateReply,
    TokensGenerated,
)
from libs.common.bus.subjects import (
    ENDPOINT_GENERATE,
    GATEWAY_HEARTBEAT,
    REQUEST_CANCEL,
    REQUEST_TOKENS,
)
from libs.common.clock import SystemClock
from libs.common.errors import BusNoResponders, BusPayloadTooLarge, BusTimeout
from libs.common.observability import telemetry
from libs.common.sampling import SamplingParameters
from libs.common.token_ids import TokenIds
from tests.support.waiting import eventually


def tokens(index: int, request_id: str = "req-1") -> TokensGenerated:
    return TokensGenerated(request_id=request_id, attempt=1, start_index=index, ids=(index,))


def generate(num_prompt_tokens: int) -> Generate:
    return Generate(
        request_id="req-1",
        attempt=1,
        endpoint_id="ep-1",
        epoch=1,
        prompt_ids=TokenIds(range(num_prompt_tokens)),
        sampling=SamplingParameters(max_tokens=1, seed=1),
        remaining_ms=1000,
    )


class BusContract:
    """Subclasses give `publisher` and `listener`: two connections that may do all of this."""

    async def test_a_subscriber_gets_messages_of_its_token_in_order(
        self, publisher: Bus, listener: Bus
    ) -> None:
        got: list[int] = []

        async def handle(message: TokensGenerated) -> None:
            got.append(message.start_index)

        await listener.subscribe(REQUEST_TOKENS, "req-1", handle)
        await self.settled(listener)
        for index in range(200):
            await publisher.publish(REQUEST_TOKENS, "req-1", tokens(index))
            await publisher.publish(REQUEST_TOKENS, "req-2", tokens(index, "req-2"))

        await eventually(lambda: len(got) >= 200)
        assert got == list(range(200))

    async def test_without_a_token_a_subscriber_gets_every_id(
        self, publisher: Bus, listener: Bus
    ) -> None:
        got: set[str] = set()

        async def handle(message: TokensGenerated) -> None:
            got.add(message.request_id)

        await listener.subscribe(REQUEST_TOKENS, None, handle)
        await self.settled(listener)
        for name in ("req-1", "req-2", "req-3"):
            await publisher.publish(REQUEST_TOKENS, name, tokens(0, name))

        await eventually(lambda: got == {"req-1", "req-2", "req-3"})

    async def test_a_request_returns_the_handlers_reply(
        self, publisher: Bus, listener: Bus
    ) -> None:
        async def handle(message: CancelRequest) -> Acknowledged:
            return Acknowledged(known=message.attempt == 2)

        await listener.subscribe(REQUEST_CANCEL, None, handle)
        await self.settled(listener)

        reply = await publisher.request(
            REQUEST_CANCEL, None, CancelRequest(request_id="req-1", attempt=2), timeout_s=2
        )

        assert reply == Acknowledged(known=True)

    async def test_a_request_nobody_listens_to_says_so_at_once(self, publisher: Bus) -> None:
        with pytest.raises(BusNoResponders):
            await publisher.request(ENDPOINT_GENERATE, "ep-none", generate(1), timeout_s=5)

    async def test_a_malformed_message_is_told_with_its_id_and_field_and_the_next_ones_arrive(
        self, publisher: Bus, listener: Bus
    ) -> None:
        told, handled = list[tuple[str, str]](), list[int]()

        async def handle(message: TokensGenerated) -> None:
            handled.append(message.start_index)

        subscription = await listener.subscribe(
            REQUEST_TOKENS, None, handle, on_malformed=lambda id_, words: told.append((id_, words))
        )
        await self.settled(listener)
        wrong = TokensGenerated.model_construct(**{**dict(tokens(0)), "start_index": -1})
        await publisher.publish(REQUEST_TOKENS, "req-1", wrong)
        await publisher.publish(REQUEST_TOKENS, "req-1", tokens(1))

        await eventually(lambda: handled == [1])
        ((id_, words),) = told
        assert id_ == "req-1" and words.startswith("start_index: ")
        await subscription.unsubscribe()

    async def test_while_a_hold_is_closed_the_newest_message_of_each_sender_waits_for_its_release(
        self, publisher: Bus, listener: Bus
    ) -> None:
        got, hold, others = list[tuple[str, int]](), MessageHold(SystemClock()), list[int]()

        async def handle(message: TokensGenerated) -> None:
            got.append((message.request_id, message.start_index))

        async def note(message: TokensGenerated) -> None:
            others.append(message.start_index)

        await listener.subscribe(REQUEST_TOKENS, None, handle, hold=hold)
        await listener.subscribe(REQUEST_TOKENS, None, note)
        await self.settled(listener)
        with hold.closed():
            for index in range(3):
                await publisher.publish(REQUEST_TOKENS, "req-1", tokens(index))
            await publisher.publish(REQUEST_TOKENS, "req-2", tokens(7, "req-2"))
            await eventually(lambda: others == [0, 1, 2, 7] and hold.num_kept == 2)
        assert got == [], "what is kept waits for the release, not only for the end"

        await hold.release()
        await publisher.publish(REQUEST_TOKENS, "req-1", tokens(8))

        await eventually(lambda: len(got) >= 3)
        assert got == [("req-1", 2), ("req-2", 7), ("req-1", 8)]

    async def test_a_handler_that_raises_leaves_the_requester_to_its_timeout(
        self, publisher: Bus, listener: Bus
    ) -> None:
        async def handle(message: CancelRequest) -> Acknowledged:
            raise RuntimeError("a bug")

        await listener.subscribe(REQUEST_CANCEL, None, handle)
        await self.settled(listener)

        with pytest.raises(BusTimeout):
            await publisher.request(
                REQUEST_CANCEL, None, CancelRequest(request_id="req-1", attempt=1), timeout_s=0.2
            )

    async def test_concurrent_handlers_do_not_wait_for_a_slow_one(
        self, publisher: Bus, listener: Bus
    ) -> None:
        release = asyncio.Event()

        async def handle(message: Generate) -> GenerateReply:
            if len(message.prompt_ids) == 1:
                await release.wait()
            return GenerateReply(result="accepted", message=str(len(message.prompt_ids)))

        await listener.subscribe(ENDPOINT_GENERATE, "ep-1", handle, concurrency=8)
        await self.settled(listener)
        slow = asyncio.create_task(
            publisher.request(ENDPOINT_GENERATE, "ep-1", generate(1), timeout_s=5)
        )

        fast = await publisher.request(ENDPOINT_GENERATE, "ep-1", generate(2), timeout_s=5)
        assert fast == GenerateReply(result="accepted", message="2")
        release.set()
        assert await slow == GenerateReply(result="accepted", message="1")

    async def test_nothing_arrives_after_unsubscribing(self, publisher: Bus, listener: Bus) -> None:
        got: list[str] = []
        other: list[str] = []

        async def handle(message: GatewayHeartbeat) -> None:
            got.append(message.gateway_id)

        async def witness(message: GatewayHeartbeat) -> None:
            other.append(message.gateway_id)

        subscription = await listener.subscribe(GATEWAY_HEARTBEAT, None, handle)
        await listener.subscribe(GATEWAY_HEARTBEAT, None, witness)
        await subscription.unsubscribe()
        await self.settled(listener)
        await publisher.publish(
            GATEWAY_HEARTBEAT, "gw-1", GatewayHeartbeat(gateway_id="gw-1", request_ids=())
        )

        await eventually(lambda: other == ["gw-1"])
        assert got == []

    async def test_a_message_over_the_limit_is_refused_with_both_sizes(
        self, publisher: Bus
    ) -> None:
        with pytest.raises(BusPayloadTooLarge) as caught:
            await publisher.publish(ENDPOINT_GENERATE, "ep-1", generate(3_000_000))
        assert caught.value.size_bytes > caught.value.max_bytes

    async def test_the_trace_context_travels_with_the_message(
        self, publisher: Bus, listener: Bus
    ) -> None:
        seen: list[str | None] = []
        traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

        async def handle(message: TokensGenerated) -> None:
            seen.append(telemetry.current_traceparent())

        await listener.subscribe(REQUEST_TOKENS, "req-1", handle)
        await self.settled(listener)
        with telemetry.remote_context({"traceparent": traceparent}):
            await publisher.publish(REQUEST_TOKENS, "req-1", tokens(0))

        await eventually(lambda: seen == [traceparent])

    async def settled(self, bus: Bus) -> None:
        """Return once the server knows the subscriptions made so far."""
        raise NotImplementedError
