"""Finds one request an endpoint, a warm one or by the queue, and again when it is lost."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from libs.common.bus.bus import Bus
from libs.common.bus.messages import RequestAssigned
from libs.common.clock import Clock
from libs.common.reasons import Reason
from libs.common.states import FinishReason
from services.gateway.errors import NotServed
from services.gateway.generation.bus_monitor import BusMonitor
from services.gateway.generation.cancel_retrier import CancelRetrier
from services.gateway.generation.endpoint_client import EndpointClient, GenerateResult
from services.gateway.generation.job import Job, Loss
from services.gateway.generation.refusals import deadline_error, refusal_error
from services.gateway.generation.request_inbox import RequestInbox
from services.gateway.generation.signal import Signal
from services.gateway.generation.submission import Submission
from services.gateway.generation.token_follower import TokenFollower
from services.gateway.generation.waiting_requests import WaitingRequests
from services.gateway.routing.route_table import RouteTable
from services.gateway.settings import Timing

logger = logging.getLogger(__name__)

_MAX_WARM_TRIES = 2
_DEADLINE_SLACK_S = 1.0
_MAX_STALE_CONTEXTS = 40  # with a pause of 0.25 s after each


@dataclass(frozen=True)
class Ports:
    """What every request's life needs of the process."""

    bus: Bus
    monitor: BusMonitor
    clock: Clock
    routes: RouteTable
    cancel_retrier: CancelRetrier
    waiting: WaitingRequests
    timing: Timing


class Dispatch:
    """The fields say how far it came; whoever ends it reads there what must be told to whom."""

    def __init__(
        self, job: Job, inbox: RequestInbox, ports: Ports, on_opened: Callable[["Dispatch"], None]
    ) -> None:
        self.job, self.inbox = job, inbox
        self.endpoint: EndpointClient | None = None  # which may have this request
        self.is_submitted = False  # a scheduler may know of it
        self.is_opened = False  # accepted by somebody: the client may be told
        self.assigned_s: float | None = None
        self.opened = Signal()
        self._ports, self._on_opened = ports, on_opened
        self._slot_at: EndpointClient | None = None
        self._num_stale_contexts = 0
        self._first_index = 0  # of the running attempt

    @property
    def attempt(self) -> int:
        return self.inbox.log.attempt

    def remaining_s(self) -> float:
        """Of the deadline; negative once it has passed."""
        return self.job.deadline_s - self._now_s()

    async def run(self) -> None:
        """Returns when the finish is in the log. Raises ApiError, for a passed deadline too."""
        deadline = asyncio.timeout(self.remaining_s())
        try:
            async with deadline:
                await self._run()
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            raise deadline_error(self.inbox.waits_for) from exc

    async def _run(self) -> None:
        loss = None
        endpoint = await self._warm_endpoint()
        if endpoint is None and self.endpoint is not None:
            loss = self._given_up(self.endpoint, was_taken=self._has_new_tokens)
        while True:
            endpoint = endpoint or await self._queued_endpoint(loss)
            if await self._follower(endpoint).until_finished() or self._is_complete():
                self._check_finish()
                return
            loss, endpoint = self._given_up(endpoint, was_taken=True), None

    # ------------------------------------------------------------ finding an endpoint

    async def _warm_endpoint(self) -> EndpointClient | None:
        """One that took the request at once; `self.endpoint` stays set if one may have."""
        for route in self._ports.routes.candidates(self.job.model_id)[:_MAX_WARM_TRIES]:
            endpoint = self._endpoint(route.endpoint_id, route.epoch)
            result = await self._generate(endpoint)
            if result is GenerateResult.ACCEPTED:
                self._open()
                return endpoint
            self._ports.routes.mark_refused(route.endpoint_id)
            if result is GenerateResult.UNANSWERED:
                return None
            self.endpoint = None
        return None

    async def _queued_endpoint(self, loss: Loss | None) -> EndpointClient:
        """One that the scheduler assigned and that took the request."""
        while True:
            submission = self._submission(loss)
            self.is_submitted = True
            endpoint = await self._handed_over(submission, await submission.until_assigned())
            if endpoint is not None:
                return endpoint
            loss = None
            self._begin_attempt()

    async def _handed_over(
        self, submission: Submission, assigned: RequestAssigned
    ) -> EndpointClient | None:
        """None when this attempt came to nothing: refused, or perhaps taken by an endpoint that
        the scheduler has replaced meanwhile. An endpoint that starts does not listen at once."""
        timing = self._ports.timing
        pause_s = timing.first_retry_s
        while True:
            endpoint = self._endpoint(assigned.endpoint_id, assigned.epoch)
            result = await self._generate(endpoint)
            if result is GenerateResult.ACCEPTED:
                return endpoint
            if result in (GenerateResult.REFUSED, GenerateResult.ENDED):
                return None
            if result is GenerateResult.STALE_CONTEXT:
                await self._await_replacement()
                return None
            latest = await submission.assigned_after(pause_s)
            pause_s = min(2 * pause_s, timing.retry_s)
            if result is GenerateResult.UNANSWERED and not latest.is_same_as(assigned):
                self._ports.cancel_retrier.cancel(endpoint, self.job.request_id, self.attempt)
                return None
            assigned = latest

    async def _await_replacement(self) -> None:
        """The scheduler is about to replace it. Raises NotServed if it does not: then our own
        idea of the model's context is the one that is out of date."""
        self._num_stale_contexts += 1
        if self._num_stale_contexts > _MAX_STALE_CONTEXTS:
            message = "the model's context was changed meanwhile, send the request again"
            raise NotServed(message, Reason.MODEL_CHANGED)
        await asyncio.sleep(self._ports.timing.retry_s)

    async def _generate(self, endpoint: EndpointClient) -> GenerateResult:
        self.endpoint, sent_s = endpoint, self._now_s()
        message = self.job.generate(
            endpoint.endpoint_id, endpoint.epoch, self.attempt, self.inbox.log.ids, sent_s
        )
        self.inbox.note_sent(sent_s)
        result = await endpoint.generate(message)
        if result is GenerateResult.ACCEPTED:
            self.assigned_s = self.assigned_s or self._now_s()
            self._take_slot(endpoint)
        else:
            self.inbox.note_not_taken(self._now_s())
        return result

    # ------------------------------------------------------------ losing one

    @property
    def _has_new_tokens(self) -> bool:
        """Of the running attempt."""
        return self.inbox.log.next_index > self._first_index

    def _given_up(self, endpoint: EndpointClient, *, was_taken: bool) -> Loss:
        """What the scheduler is told; how many are too many is decided there, by their causes."""
        logger.warning(
            "request %s leaves endpoint %s, attempt %d, %d tokens",
            self.job.request_id, endpoint.endpoint_id, self.attempt, self.inbox.log.next_index,
        )  # fmt: skip
        loss = Loss(endpoint.endpoint_id, was_taken, self._has_new_tokens)
        self._ports.cancel_retrier.cancel(endpoint, self.job.request_id, self.attempt)
        self._begin_attempt()
        return loss

    def _begin_attempt(self) -> None:
        self.release_slot()
        self.inbox.begin_attempt(self._now_s())
        self._first_index = self.inbox.log.next_index
        self.endpoint = None

    def _is_complete(self) -> bool:
        """Whether only the word that it has ended was lost with the endpoint."""
        sampling = self.job.sampling
        return self.inbox.log.conclude(sampling.max_tokens, sampling.stop_token_ids)

    def _check_finish(self) -> None:
        """Raises ApiError unless the worker ended as it should."""
        log = self.inbox.log
        if log.finish is FinishReason.ERROR:
            raise NotServed(log.error or "the worker failed", Reason.WORKER_ERROR)
        if log.finish is FinishReason.CANCELLED:
            self._raise_if_refused()  # the scheduler ended it there, too
            if self.remaining_s() < _DEADLINE_SLACK_S:
                raise deadline_error()  # the worker's clock was a little ahead
            raise NotServed("the worker was told to cancel this request", Reason.CANCELLED)

    def _raise_if_refused(self) -> None:
        refused = self.inbox.refused
        if refused is not None and refused.attempt == self.attempt:
            raise refusal_error(refused)

    # ------------------------------------------------------------ parts

    def _take_slot(self, endpoint: EndpointClient) -> None:
        self._slot_at = endpoint
        self._ports.routes.count_started(endpoint.endpoint_id)

    def release_slot(self) -> None:
        """The request runs nowhere any more."""
        if self._slot_at is not None:
            self._ports.routes.count_ended(self._slot_at.endpoint_id)
            self._slot_at = None

    def _submission(self, loss: Loss | None) -> Submission:
        return Submission(
            self.job,
            self.attempt,
            loss,
            self.inbox,
            bus=self._ports.bus,
            clock=self._ports.clock,
            timing=self._ports.timing,
            waiting=self._ports.waiting,
            on_accepted=self._open,
            is_accepted=self.is_opened,
        )

    def _follower(self, endpoint: EndpointClient) -> TokenFollower:
        return TokenFollower(
            self.job,
            endpoint,
            self.inbox,
            monitor=self._ports.monitor,
            routes=self._ports.routes,
            clock=self._ports.clock,
            timing=self._ports.timing,
        )

    def _open(self) -> None:
        if not self.is_opened:
            self.is_opened = True
            self._on_opened(self)
            self.opened.notify()

    def _now_s(self) -> float:
        return self._ports.clock.monotonic_s()

    def _endpoint(self, endpoint_id: str, epoch: int) -> EndpointClient:
        return EndpointClient(
            self._ports.bus, endpoint_id, epoch, self._ports.timing.call_timeout_s
        )
