"""Test doubles that behave like the real thing; one contract suite runs on both.

`MemoryBus` instances made by one `MemoryBroker` see each other's messages, encoded and decoded as
on the wire. Delivery is asynchronous and in order per subscription, as with NATS.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from libs.common.bus.handling import (
    Decoder,
    Handler,
    M,
    OnMalformed,
    concrete,
    decode,
    encode,
    run_handler,
)
from libs.common.bus.message_hold import MessageHold
from libs.common.bus.messages import ImportModel, Message
from libs.common.bus.repetition import decoder_of
from libs.common.bus.subjects import Subject
from libs.common.errors import BusError, BusNoResponders, BusPayloadTooLarge, BusTimeout
from libs.common.observability import telemetry

MAX_PAYLOAD_BYTES = 8 * 2**20


class FakeClock:
    """Stands still until told to advance."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self._elapsed_s += seconds


@dataclass(frozen=True)
class _Delivery:
    name: str
    data: bytes
    headers: dict[str, str]
    reply: "asyncio.Future[bytes] | None"


def _matches(pattern: str, subject: str) -> bool:
    ours, theirs = pattern.split("."), subject.split(".")
    return len(ours) == len(theirs) and all(
        a in ("*", b) for a, b in zip(ours, theirs, strict=True)
    )


class MemorySubscription:
    def __init__(
        self,
        broker: "MemoryBroker",
        pattern: str,
        handle: Callable[[_Delivery], Coroutine[None, None, None]],
        concurrency: int,
    ) -> None:
        self.pattern = pattern
        self._broker = broker
        self._handle = handle
        self._queue: asyncio.Queue[_Delivery] = asyncio.Queue()
        self._limit = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._pump = asyncio.create_task(self._deliver())

    def put(self, delivery: _Delivery) -> None:
        self._queue.put_nowait(delivery)

    async def _deliver(self) -> None:
        while True:
            delivery = await self._queue.get()
            await self._limit.acquire()
            task = asyncio.create_task(self._handle(delivery))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._limit.release()

    async def unsubscribe(self) -> None:
        if self in self._broker.subscriptions:
            self._broker.subscriptions.remove(self)
        self._pump.cancel()


@dataclass
class MemoryBroker:
    """The server. `is_down` drops what is published, as NATS does to a client that is cut off.

    Frozen, it keeps its connections and delivers nothing, not even an answer, until it thaws.
    """

    subscriptions: list[MemorySubscription] = field(default_factory=list)
    published: list[tuple[str, Message]] = field(default_factory=list)  # all, for assertions
    is_down: bool = False
    _held: list[tuple[str, "_Delivery"]] | None = None  # while it is frozen
    # Called with (subject, message); True drops that message.
    lose: Callable[[str, Message], bool] = field(default=lambda _subject, _message: False)

    def bus(self) -> "MemoryBus":
        return MemoryBus(self)

    def freeze(self) -> None:
        self._held = []

    def thaw(self) -> None:
        held, self._held = self._held or [], None
        for name, delivery in held:
            self.route(name, delivery)

    def route(self, name: str, delivery: _Delivery) -> int:
        """Hand to every matching subscription; the number of them, as far as it tells."""
        if self._held is not None:
            self._held.append((name, delivery))
            return 1
        found = [s for s in self.subscriptions if _matches(s.pattern, name)]
        for subscription in found:
            subscription.put(delivery)
        return len(found)


class MemoryBus:
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._own: list[MemorySubscription] = []

    @property
    def is_connected(self) -> bool:
        return not self._broker.is_down

    async def publish(self, subject: Subject, token: str | None, message: Message) -> None:
        self._send(subject.of(token), message, None)
        await asyncio.sleep(0)

    def _send(self, name: str, message: Message, reply: "asyncio.Future[bytes] | None") -> int:
        data = encode(message)
        if len(data) > MAX_PAYLOAD_BYTES:
            raise BusPayloadTooLarge(name, len(data), MAX_PAYLOAD_BYTES)
        self._broker.published.append((name, message))
        if self._broker.is_down or self._broker.lose(name, message):
            return 1  # lost on the way: nobody knows, a request times out
        return self._broker.route(name, _Delivery(name, data, telemetry.outgoing_headers(), reply))

    async def request(
        self, subject: Subject, token: str | None, message: Message, *, timeout_s: float
    ) -> Message:
        assert subject.reply is not None, f"{subject.pattern} has no reply"
        name = subject.of(token)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._send(name, message, answer) == 0:
            raise BusNoResponders(name)
        try:
            async with asyncio.timeout(timeout_s):
                return decode(subject.reply, await answer)
        except TimeoutError as exc:
            raise BusTimeout(name, timeout_s) from exc

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
        decoder: Decoder[M] = decoder_of(subject)

        async def handle(delivery: _Delivery) -> None:
            reply = await run_handler(
                *(subject, decoder, handler, delivery.data, delivery.headers),
                name=delivery.name,
                on_malformed=on_malformed,
                hold=hold,
            )
            if reply is not None and delivery.reply and not delivery.reply.done():
                data = encode(reply)
                if len(data) <= MAX_PAYLOAD_BYTES:  # else it is lost, as NATS refuses it
                    delivery.reply.set_result(data)

        pattern = concrete(subject, token)
        subscription = MemorySubscription(self._broker, pattern, handle, concurrency)
        self._broker.subscriptions.append(subscription)
        self._own.append(subscription)
        return subscription

    async def close(self) -> None:
        for subscription in self._own:
            await subscription.unsubscribe()


@dataclass
class MemoryJob:
    message: ImportModel
    queue: "MemoryWorkQueue"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def done(self) -> None:
        self.queue.being_done.discard(self.message.import_id)

    async def retry_later(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self.queue.add, self.message, self.headers)

    async def in_progress(self) -> None:
        return None


@dataclass
class MemoryWorkQueue:
    """Jobs in memory; `is_down` does what the real one does without its server, and `lose_all` what
    one does whose server lost its data."""

    jobs: "deque[ImportModel]" = field(default_factory=deque)
    being_done: set[str] = field(default_factory=set)  # imports whose jobs were taken
    num_puts: int = 0
    is_down: bool = False
    _headers: dict[ImportModel, Mapping[str, str]] = field(default_factory=dict)
    _added: asyncio.Event = field(default_factory=asyncio.Event)

    async def ensure(self) -> None:
        if self.is_down:
            raise BusError("import.requested.*", "the queue is down")

    async def put(self, message: ImportModel) -> None:
        await self.ensure()
        self.num_puts += 1
        waiting = {job.import_id for job in self.jobs}
        if message.import_id not in waiting | self.being_done:
            self.add(message, telemetry.outgoing_headers())

    async def withdraw(self, import_id: str) -> None:
        await self.ensure()
        self.being_done.discard(import_id)
        self.jobs = deque(job for job in self.jobs if job.import_id != import_id)

    def lose_all(self) -> None:
        self.jobs.clear()
        self.being_done.clear()

    def add(self, message: ImportModel, headers: Mapping[str, str]) -> None:
        self.jobs.append(message)
        self._headers[message] = headers
        self._added.set()

    async def take(self, *, timeout_s: float) -> MemoryJob | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.jobs or self.is_down:
                    self._added.clear()
                    await self._added.wait()
                message = self.jobs.popleft()
                self.being_done.add(message.import_id)
                return MemoryJob(message, self, self._headers[message])
        return None
