"""The message bus: what a service may do with it, and the NATS adapter.

Messages are the classes of `messages.py`, addressed by rows of `subjects.py`. A lost message is
possible at any time, so whoever needs an effect repeats or reconciles; nothing here retries.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

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
from libs.common.bus.messages import Message
from libs.common.bus.repetition import decoder_of
from libs.common.bus.subjects import Service, Subject
from libs.common.bus.subscription import NatsSubscription, as_bus_error
from libs.common.cancellation import reraise_cancellation
from libs.common.errors import (
    BusError,
    BusNoResponders,
    BusPayloadTooLarge,
    BusTimeout,
)
from libs.common.observability import telemetry
from libs.common.settings import BusSettings

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 5.0
RECONNECT_WAIT_S = 0.25
PENDING_MESSAGES = 65_536  # past it nats-py drops silently; consumers of token streams check gaps
PENDING_BYTES = 256 * 2**20
OUTBOUND_BYTES = 16 * 2**20  # kept while the connection is down, then publishing raises


class Subscription(Protocol):
    async def unsubscribe(self) -> None:
        """Stop receiving; messages already delivered are still handled. Raises BusError."""


class Bus(Protocol):
    """What services use. One instance per process."""

    @property
    def is_connected(self) -> bool: ...

    async def publish(self, subject: Subject, token: str | None, message: Message) -> None:
        """Send without waiting for anybody. Raises BusError when it cannot even be buffered."""

    async def request(
        self, subject: Subject, token: str | None, message: Message, *, timeout_s: float
    ) -> Message:
        """The reply, of the row's reply class. Raises BusTimeout, BusNoResponders, BusError."""

    async def subscribe(
        self,
        subject: Subject,
        token: str | None,
        handler: Handler[M],
        *,
        concurrency: int = 1,
        on_malformed: OnMalformed | None = None,
        hold: MessageHold | None = None,
    ) -> Subscription:
        """Call `handler` for each message; token None listens to every id.

        A message that its class refuses is logged, or told to `on_malformed`. Those that come while
        `hold` is closed are handled when it is released, of each sender only the newest.

        With concurrency 1 messages are handled in order of arrival. What the handler returns is
        the reply on rows that have one. A handler that raises is logged and answers nothing.
        Raises BusError.
        """

    async def close(self) -> None: ...


class NatsBus:
    """Bus over nats-py: reconnects for ever, replies only to the service's own inbox."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, settings: BusSettings, service: Service, *, name: str) -> "NatsBus":
        """Raises BusError when the server is not reachable or refuses within 30 s."""
        client = Client()
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def on_error(exc: Exception) -> None:
            await _log_error(exc)
            # nats-py has no class of its own for this while connecting.
            if "authorization" in str(exc).lower() and not refused.done():
                refused.set_exception(exc)

        connecting = asyncio.ensure_future(
            client.connect(
                settings.url,
                user=settings.user,
                password=settings.password,
                name=name,
                inbox_prefix=service.inbox_prefix,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # floats work, its hint is too narrow
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=OUTBOUND_BYTES,
                error_cb=on_error,
                disconnected_cb=_log_disconnected,
                reconnected_cb=_log_reconnected,
            )
        )
        try:
            # It would go on trying with a password that will never be right.
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.wait({connecting, refused}, return_when=asyncio.FIRST_COMPLETED)
            (refused if refused.done() else connecting).result()
        except (TimeoutError, OSError, nats.errors.Error) as exc:
            connecting.cancel()
            await client.close()
            cause = str(exc) or type(exc).__name__
            raise BusError(settings.url, f"cannot connect as {settings.user}: {cause}") from exc
        finally:
            refused.cancel()
        return cls(client)

    @property
    def is_connected(self) -> bool:
        return self.client.is_connected

    async def publish(self, subject: Subject, token: str | None, message: Message) -> None:
        name = subject.of(token)
        await self._send(name, self._encode(name, message))

    async def _send(self, name: str, data: bytes) -> None:
        with reraise_cancellation(), as_bus_error(name):
            await self.client.publish(name, data, headers=telemetry.outgoing_headers() or None)

    async def request(
        self, subject: Subject, token: str | None, message: Message, *, timeout_s: float
    ) -> Message:
        assert subject.reply is not None, f"{subject.pattern} has no reply"
        name = subject.of(token)
        data = self._encode(name, message)
        try:
            with reraise_cancellation():
                answer = await self.client.request(
                    name, data, timeout=timeout_s, headers=telemetry.outgoing_headers() or None
                )
        except nats.errors.NoRespondersError as exc:
            raise BusNoResponders(name) from exc
        except (nats.errors.TimeoutError, TimeoutError) as exc:
            raise BusTimeout(name, timeout_s) from exc
        except (nats.errors.Error, OSError) as exc:
            raise BusError(name, str(exc) or type(exc).__name__) from exc
        try:
            return decode(subject.reply, answer.data)
        except ValidationError as exc:
            raise BusError(name, f"malformed reply: {exc.errors()[:3]}") from exc

    async def subscribe(
        self,
        subject: Subject,
        token: str | None,
        handler: Handler[M],
        *,
        concurrency: int = 1,
        on_malformed: OnMalformed | None = None,
        hold: MessageHold | None = None,
    ) -> NatsSubscription:
        limit = asyncio.Semaphore(concurrency)
        decoder: Decoder[M] = decoder_of(subject)

        async def handle(msg: Msg) -> None:
            try:
                reply = await run_handler(
                    *(subject, decoder, handler, msg.data, msg.headers),
                    name=msg.subject,
                    on_malformed=on_malformed,
                    hold=hold,
                )
                if reply is not None and msg.reply:
                    await self._send(msg.reply, self._encode(msg.subject, reply))
            except BusError as exc:
                logger.error("a reply on %s was not sent: %s", subject.pattern, exc)
            finally:
                limit.release()

        async def deliver(msg: Msg) -> None:
            await limit.acquire()
            if concurrency == 1:
                await handle(msg)
                return
            task = asyncio.create_task(handle(msg))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        name = concrete(subject, token)
        with as_bus_error(name):
            subscription = await self.client.subscribe(
                name,
                cb=deliver,
                pending_msgs_limit=PENDING_MESSAGES,
                pending_bytes_limit=PENDING_BYTES,
            )
        return NatsSubscription(name, subscription)

    async def close(self) -> None:
        """Flush what was published, for at most 5 s, and disconnect."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.client.drain()
        except (TimeoutError, nats.errors.Error, OSError) as exc:
            logger.warning("the bus was closed without draining: %s", exc or type(exc).__name__)
            with suppress(TimeoutError, nats.errors.Error, OSError):  # its server may be gone
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self.client.close()

    def _encode(self, name: str, message: Message) -> bytes:
        data = encode(message)
        limit = self.client.max_payload
        if len(data) > limit:
            # No repetition mends it, whatever its sender makes of the error.
            logger.error("a message of %d bytes on %s cannot be sent", len(data), name)
            raise BusPayloadTooLarge(name, len(data), limit)
        return data


async def _log_error(exc: Exception) -> None:
    logger.warning("NATS: %s", str(exc) or type(exc).__name__)


async def _log_disconnected() -> None:
    logger.warning("NATS: disconnected, reconnecting for ever")


async def _log_reconnected() -> None:
    logger.info("NATS: reconnected")
