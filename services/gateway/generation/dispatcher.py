"""All requests that are open in this process, each with the task that brings it to its end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry import trace

from libs.common.errors import BusError
from libs.common.reasons import Reason
from services.gateway.errors import ApiError, NotServed
from services.gateway.generation.bus_monitor import BusMonitor
from services.gateway.generation.dispatch import Dispatch, Ports
from services.gateway.generation.generation_stream import GenerationStream
from services.gateway.generation.job import Job
from services.gateway.generation.record import begun_row, ended_row
from services.gateway.generation.refusals import shutdown_error
from services.gateway.generation.request_inbox import RequestInbox
from services.gateway.generation.signal import Signal
from services.gateway.generation.token_log import TokenLog
from services.gateway.generation.turns import Turns
from services.gateway.journal import Journal
from services.gateway.metrics.metrics import Metrics
from services.gateway.settings import Limits, Timing
from services.gateway.store.requests import EndedRow

logger = logging.getLogger(__name__)

MAX_PROGRESSED = 4_096  # named in a heartbeat
_FIRST_ALONE = 3  # attempt: after the loss of two endpoints


class Dispatcher:
    def __init__(self, ports: Ports, journal: Journal, metrics: Metrics, limits: Limits) -> None:
        self._ports, self._journal, self._limits = ports, journal, limits
        self._metrics = metrics
        self._open: dict[str, GenerationStream] = {}
        self._ended = Signal()
        self.progressed = Signal()  # a request that was lost before has a token again
        self.closing = Turns()  # of streams whose clients have gone
        self.is_draining = False

    @property
    def timing(self) -> Timing:
        return self._ports.timing

    @property
    def monitor(self) -> BusMonitor:
        return self._ports.monitor

    @property
    def open_ids(self) -> tuple[str, ...]:
        return tuple(self._open)

    @property
    def progressed_attempts(self) -> dict[str, int]:
        """By request, of those that the scheduler may have sent to an endpoint alone; of very many
        the latest, behind which others may still wait."""
        inboxes = {id_: generation.inbox for id_, generation in self._open.items()}
        progressed = [
            (id_, inbox.progressed_attempt)
            for id_, inbox in inboxes.items()
            if inbox.log.attempt >= _FIRST_ALONE and inbox.progressed_attempt == inbox.log.attempt
        ]
        return dict(progressed[-MAX_PROGRESSED:])

    @asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[GenerationStream]:
        """A request's whole life. Leaving the block ends it, whatever became of it until then.

        Raises NotServed while draining or without a bus.
        """
        if self.is_draining:
            raise shutdown_error()
        log = TokenLog(self._limits.max_unread_tokens, self._limits.max_unread_bytes)
        bus, clock = self._ports.bus, self._ports.clock
        inbox = RequestInbox(bus, job.request_id, log, clock, self._note_first_token)
        try:
            await inbox.__aenter__()
        except BusError as exc:
            message = "the message bus cannot be reached now"
            raise NotServed(message, Reason.BUS_UNAVAILABLE) from exc
        dispatch = Dispatch(job, inbox, self._ports, self._note_beginning)
        task = asyncio.create_task(dispatch.run())
        generation = GenerationStream(dispatch, task, self._ports.timing.progress_s)
        self._open[job.request_id] = generation
        try:
            yield generation
        except ApiError as exc:
            generation.failed(exc)
            raise
        except Exception:
            generation.failed(NotServed("a bug of the gateway", Reason.INTERNAL_ERROR))
            raise
        finally:
            task.cancel()
            self._close(dispatch, generation)
            await _settled(task, inbox)
            job.release_prompt()

    async def drain(self, timeout_s: float) -> None:
        """Refuse new requests, let the open ones end, then end those that are left."""
        self.is_draining = True
        await self._wait_for_open(timeout_s)
        for generation in list(self._open.values()):
            generation.abort(shutdown_error())
        await self._wait_for_open(1.0)

    async def _wait_for_open(self, timeout_s: float) -> None:
        ends_s = self._ports.clock.monotonic_s() + timeout_s
        while self._open and (left_s := ends_s - self._ports.clock.monotonic_s()) > 0:
            await self._ended.wait(left_s)

    def _note_first_token(self, attempt: int) -> None:
        if attempt >= _FIRST_ALONE:
            self.progressed.notify()

    def _note_beginning(self, dispatch: Dispatch) -> None:
        """A warm request's row begins here; the scheduler writes those it was asked for."""
        if not dispatch.is_submitted:
            self._journal.note(begun_row(dispatch, self._ports.clock.monotonic_s()))

    def _close(self, dispatch: Dispatch, generation: GenerationStream) -> None:
        dispatch.release_slot()
        generation.settle()
        self._notify_endpoint(dispatch)
        if dispatch.is_opened:
            error = None if generation.error is None else generation.error.message
            now_s = self._ports.clock.monotonic_s()
            row = ended_row(dispatch, generation.outcome, error, now_s)
            self._journal.note(row)
            self._metrics.count_ended(row)
            _tell_trace_and_log(row)
        del self._open[dispatch.job.request_id]
        self._ended.notify()

    def _notify_endpoint(self, dispatch: Dispatch) -> None:
        cancel_retrier, request_id = self._ports.cancel_retrier, dispatch.job.request_id
        log, endpoint = dispatch.inbox.log, dispatch.endpoint
        if endpoint is not None and log.finish is not None:
            cancel_retrier.acknowledge(endpoint, request_id, log.attempt)
            return
        if endpoint is not None:
            cancel_retrier.cancel(endpoint, request_id, log.attempt)
        if dispatch.is_submitted and log.next_index == 0:
            cancel_retrier.cancel_waiting(dispatch.job.caller.tenant, request_id, log.attempt)


async def _settled(task: "asyncio.Task[None]", inbox: RequestInbox) -> None:
    """Wait until nothing of the request runs here any more."""
    await asyncio.wait([task])
    exc = None if task.cancelled() else task.exception()
    if exc is not None and not isinstance(exc, ApiError):
        logger.error("a request's dispatch failed", exc_info=exc)
    try:
        await inbox.__aexit__(None, None, None)
    except BusError as exc:
        logger.warning("a request's subscriptions stay until the bus reconnects: %s", exc)


def _tell_trace_and_log(row: EndedRow) -> None:
    ttft_s = None if row.first_token_age_s is None else row.arrived_age_s - row.first_token_age_s
    span = trace.get_current_span()
    span.set_attribute("hydra.model_id", row.model_id)
    span.set_attribute("hydra.outcome", row.outcome)
    span.set_attribute("hydra.num_generated_tokens", row.num_generated_tokens)
    if row.endpoint_id is not None:
        span.set_attribute("hydra.endpoint_id", row.endpoint_id)
    if ttft_s is not None:
        span.set_attribute("hydra.ttft_s", ttft_s)
    logger.info(
        "request %s ended: %s, model %s, endpoint %s, attempt %d, %d + %d tokens, TTFT %s s",
        row.id, row.outcome, row.model_id, row.endpoint_id, row.attempt, row.num_prompt_tokens,
        row.num_generated_tokens, "-" if ttft_s is None else f"{ttft_s:.3f}",
    )  # fmt: skip
