"""The import work queue: JetStream, at least once, one consumer group shared by all fetchers.

A job has its import's own subject, of which the stream keeps one message until it is acknowledged,
so a job that is put again while the queue still has it changes nothing. One that a server lost
with its data is added anew: the scheduler puts while no progress is heard. A job may also be taken
twice, e.g. when its acknowledgement was lost: jobs are idempotent.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from pydantic import ValidationError

from libs.common.bus.messages import ImportModel
from libs.common.bus.subjects import (
    IMPORT_ACK_WAIT_S,
    IMPORT_CONSUMER,
    IMPORT_REQUESTED,
    IMPORT_STREAM,
)
from libs.common.cancellation import reraise_cancellation
from libs.common.errors import BusError, BusTimeout
from libs.common.observability import telemetry

logger = logging.getLogger(__name__)

API_TIMEOUT_S = 5.0
MAX_JOBS = 100_000
_STORE_FAILED_CODE = 10077  # the server keeps as many messages as it may, here mostly one
_FULL_SUBJECT = "maximum messages per subject exceeded"


class Job(Protocol):
    @property
    def message(self) -> ImportModel: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The trace context of whoever put it, for `telemetry.remote_context`."""

    async def done(self) -> None:
        """The job is over, whether it succeeded or was refused; it will not come again."""

    async def retry_later(self, delay_s: float) -> None:
        """Give it back; it comes again to any fetcher after the delay."""

    async def in_progress(self) -> None:
        """Keep it: call at least every third of the acknowledgement wait (30 s)."""


class WorkQueue(Protocol):
    async def ensure(self) -> None:
        """Create or update stream and consumer (scheduler). Raises BusError."""

    async def put(self, message: ImportModel) -> None:
        """Add a job, unless that of its import waits or is being done. Raises BusError, also when
        the queue is full."""

    async def withdraw(self, import_id: str) -> None:
        """Forget the job of an import, if there is one; who does it goes on. Raises BusError."""

    async def take(self, *, timeout_s: float) -> Job | None:
        """The next job, or None after the timeout or while the server is away."""


@dataclass(frozen=True)
class NatsJob:
    message: ImportModel
    raw: Msg

    @property
    def headers(self) -> Mapping[str, str]:
        return self.raw.headers or {}

    async def done(self) -> None:
        await self._answer(self.raw.ack_sync(timeout=API_TIMEOUT_S))

    async def retry_later(self, delay_s: float) -> None:
        await self._answer(self.raw.nak(delay=delay_s))

    async def in_progress(self) -> None:
        await self._answer(self.raw.in_progress())

    async def _answer(self, answer: "asyncio.Future[Msg] | object") -> None:
        try:
            with reraise_cancellation():
                await answer  # type: ignore[misc]  # three coroutine types with nothing in common
        except (nats.errors.Error, TimeoutError, OSError) as exc:
            # The job comes again after the acknowledgement wait; it is idempotent.
            logger.warning("an import job was not acknowledged: %s", exc or type(exc).__name__)


class NatsWorkQueue:
    def __init__(self, client: Client, put_timeout_s: float = API_TIMEOUT_S) -> None:
        self._client = client
        self._put_timeout_s = put_timeout_s
        self._js = client.jetstream(timeout=API_TIMEOUT_S)

    async def ensure(self) -> None:
        stream = StreamConfig(
            name=IMPORT_STREAM,
            subjects=[IMPORT_REQUESTED.wildcard],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=1,
            max_msgs=MAX_JOBS,
        )
        consumer = ConsumerConfig(
            durable_name=IMPORT_CONSUMER,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=IMPORT_ACK_WAIT_S,
        )
        with reraise_cancellation(), _mapped():
            try:
                await self._js.add_stream(stream)
            except nats.js.errors.BadRequestError:  # exists with another configuration
                await self._js.update_stream(stream)
            await self._js.add_consumer(IMPORT_STREAM, consumer)

    async def put(self, message: ImportModel) -> None:
        subject, data = IMPORT_REQUESTED.of(message.import_id), message.model_dump_json().encode()
        headers = telemetry.outgoing_headers()
        with reraise_cancellation(), _mapped():
            try:
                await self._js.publish(
                    subject, data, timeout=self._put_timeout_s, headers=headers or None
                )
            except nats.js.errors.APIError as exc:
                if exc.err_code != _STORE_FAILED_CODE or exc.description != _FULL_SUBJECT:
                    raise

    async def withdraw(self, import_id: str) -> None:
        with reraise_cancellation(), _mapped():
            await self._js.purge_stream(IMPORT_STREAM, subject=IMPORT_REQUESTED.of(import_id))

    async def take(self, *, timeout_s: float) -> NatsJob | None:
        # A plain request rather than a standing pull subscription: nothing to restore after the
        # server was away, and no permission besides MSG.NEXT is needed.
        if not self._client.is_connected:
            # A buffered pull would be sent on reconnection, for an inbox that is gone by then, and
            # hide the job until the acknowledgement wait is over.
            await asyncio.sleep(min(timeout_s, 0.25))
            return None
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{IMPORT_STREAM}.{IMPORT_CONSUMER}"
        expires_ns = int(timeout_s * 1e9)
        body = b'{"batch":1,"expires":%d}' % expires_ns
        try:
            # Old style is an inbox of its own: a pulled message carries its stream's subject, by
            # which the shared inbox would not find the waiting call.
            with reraise_cancellation():
                raw = await self._client.request(
                    subject, body, timeout=timeout_s + 1, old_style=True
                )
        except (nats.errors.Error, TimeoutError, OSError):
            return None
        if raw.headers and raw.headers.get("Status"):
            return None  # 404 no messages, 408 expired, 409 the consumer changed
        try:
            return NatsJob(ImportModel.model_validate_json(raw.data), raw)
        except ValidationError as exc:
            logger.error("dropped a malformed import job: %s", exc.errors()[:3])
            await raw.term()
            return None


class _mapped:
    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, exc: BaseException | None, _tb: object) -> None:
        if isinstance(exc, (nats.errors.TimeoutError, TimeoutError)):
            raise BusTimeout(IMPORT_REQUESTED.wildcard, API_TIMEOUT_S) from exc
        if isinstance(exc, (nats.errors.Error, OSError)):
            raise BusError(IMPORT_REQUESTED.wildcard, str(exc) or type(exc).__name__) from exc


@asynccontextmanager
async def kept_alive(job: Job) -> AsyncIterator[None]:
    """Tell the queue every third of the acknowledgement wait that the job is still being done."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(IMPORT_ACK_WAIT_S / 3)
            await job.in_progress()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
