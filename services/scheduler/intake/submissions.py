"""Handlers of what gateways ask for: a place in the queue, and giving it up."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import (
    Acknowledged,
    CancelRequest,
    ListWaiting,
    RequestAssigned,
    SubmitAccepted,
    SubmitRefused,
    SubmitReply,
    SubmitRequest,
    WaitingListed,
)
from libs.common.clock import Clock
from libs.common.errors import DatabaseUnavailable
from libs.common.observability import telemetry
from libs.common.reasons import Reason
from libs.common.states import EndpointState, RequestOutcome, RequestState
from services.scheduler.errors import LeadershipLost
from services.scheduler.intake.admission import Admission, submit_refused
from services.scheduler.intake.queue_positions import QueuePositions
from services.scheduler.intake.queue_readings import QueueReadings
from services.scheduler.intake.repeat_batcher import RepeatBatcher
from services.scheduler.intake.shared_transactions import SharedTransactions
from services.scheduler.observation.trace_contexts import TraceContexts
from services.scheduler.policy.refusals import Refusal
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.store import endpoints, models, queue, request_losses, requests
from services.scheduler.store.fenced_transactions import FencedTransactions
from services.scheduler.store.new_requests import new_request
from services.scheduler.store.requests import Request

logger = logging.getLogger(__name__)

# Of requests that are on record as ended, where the outcome says enough.
_REASONS: Mapping[RequestOutcome | None, Reason] = {
    RequestOutcome.WORKER_CRASHED: Reason.WORKER_CRASHED,
    RequestOutcome.DEADLINE: Reason.DEADLINE_EXCEEDED,
    RequestOutcome.GATEWAY_LOST: Reason.GATEWAY_LOST,
}


@dataclass(frozen=True)
class Submissions:
    fenced: FencedTransactions
    shared: SharedTransactions
    admission: Admission
    repeats: RepeatBatcher
    positions: QueuePositions
    changes: ChangeLog
    traces: TraceContexts
    clock: Clock
    wake: Callable[[], None]  # the reconciler: somebody waits, or does no longer
    _asked: dict[tuple[str, int], "asyncio.Task[SubmitReply | None]"] = field(default_factory=dict)

    async def submit(self, message: SubmitRequest) -> SubmitReply | None:
        """Idempotent by (request_id, attempt). No answer while the database is away: the gateway
        repeats. Whoever repeats before the first answer gets that one: a thousand that come at
        once take longer than their gateways wait for an answer."""
        key = (message.request_id, message.attempt)
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.create_task(self._submit(message))
            asked.add_done_callback(lambda _: self._asked.pop(key))
        return await asyncio.shield(asked)

    async def _submit(self, message: SubmitRequest) -> SubmitReply | None:
        try:
            place = await self.repeats.place(message)
            if place is not None:
                return SubmitReply(result=SubmitAccepted(queue_position=place))
            result = await self.shared.run(
                message.tenant,
                message.request_id,
                partial(self._place, message=message),
                message.model_id,
            )
        except (DatabaseUnavailable, LeadershipLost) as exc:
            logger.warning("request %s was not answered: %s", message.request_id, exc)
            return None
        if isinstance(result, SubmitAccepted):
            self.repeats.remember(message)
            self.traces.remember(message.request_id, telemetry.current_traceparent())
        if isinstance(result, SubmitAccepted) or message.attempt > 1:
            self.changes.submitted.add(message.request_id)
            self.wake()
        return SubmitReply(result=result)

    async def list_waiting(self, message: ListWaiting) -> WaitingListed | None:
        """From the snapshot, without a look at the rows: of what it does not know yet, or no more,
        the gateway asks alone. No answer before the first round."""
        positions = self.positions.of(message.attempts)
        return None if positions is None else WaitingListed(positions=positions)

    async def cancel(self, message: CancelRequest) -> Acknowledged | None:
        """Of a request that waits; one that runs is cancelled at its endpoint by the gateway."""
        try:
            is_known = await self.shared.run(
                message.tenant, message.request_id, partial(self._cancel, message=message)
            )
        except (DatabaseUnavailable, LeadershipLost) as exc:
            logger.warning("cancelling %s was not answered: %s", message.request_id, exc)
            return None
        self.changes.requests.add(message.request_id)
        self.wake()
        return Acknowledged(known=is_known)

    async def _cancel(
        self, session: AsyncSession, readings: QueueReadings, message: CancelRequest
    ) -> bool:
        """Whether there is such a request."""
        request = await readings.request(message.request_id)
        if request is not None:
            await requests.end(session, [request.id], RequestOutcome.CANCELLED, None)
            readings.leave(request.id)
        return request is not None

    async def _place(
        self, session: AsyncSession, readings: QueueReadings, message: SubmitRequest
    ) -> SubmitAccepted | SubmitRefused:
        request = await readings.request(message.request_id)
        if request is None:
            return await self._place_new(session, readings, message)
        return await self._place_known(session, readings, message, request)

    async def _place_new(
        self, session: AsyncSession, readings: QueueReadings, message: SubmitRequest
    ) -> SubmitAccepted | SubmitRefused:
        model = await readings.model(message.model_id, self.clock.monotonic_s())
        await self.admission.prepare(session, readings.take_read())
        tenant = "" if model is None else model.tenant
        num_queued = await readings.num_queued(message.model_id, tenant)
        refusal = await self.admission.refusal(
            session, model, num_queued, message.remaining_ms / 1000
        )
        if refusal is not None:
            return refusal
        assert model is not None, "an unknown model is refused"
        readings.add(new_request(message, model))
        if message.lost_endpoint_id is not None:
            await readings.write()  # of losses only what requests have that are there
            await self._note_loss(session, message)
        readings.enter(message.request_id, model.id, model.tenant)
        return SubmitAccepted(queue_position=num_queued.of_model)

    async def _place_known(
        self,
        session: AsyncSession,
        readings: QueueReadings,
        message: SubmitRequest,
        request: Request,
    ) -> SubmitAccepted | SubmitRefused:
        if request.state is RequestState.ENDED:
            return await self._ended(session, request)
        if message.attempt < request.attempt:
            reason = f"attempt {message.attempt} is over, {request.attempt} is the latest"
            return SubmitRefused(code=Reason.ENDED, message=reason)
        if message.attempt > request.attempt:
            return await self._place_again(session, readings, message, request)
        return await self._repeat(session, readings, request)

    async def _place_again(
        self,
        session: AsyncSession,
        readings: QueueReadings,
        message: SubmitRequest,
        request: Request,
    ) -> SubmitAccepted | SubmitRefused:
        model = await models.find(session, request.model_id, self.clock.monotonic_s())
        refusal = await self.admission.state_refusal(session, model)
        if refusal is not None:
            outcome = refusal.reason.row.outcome
            await requests.end(session, [request.id], outcome, refusal.message)
            readings.leave(request.id)
            return submit_refused(refusal)
        await self._note_loss(session, message)
        return await self._queue_again(session, readings, request, message.attempt)

    async def _repeat(
        self, session: AsyncSession, readings: QueueReadings, request: Request
    ) -> SubmitAccepted:
        """The same attempt again: its gateway does not know yet what it was given, if anything."""
        if request.endpoint_id is None:
            return await self._queued(session, request.id)
        endpoint = await endpoints.find_past(session, request.endpoint_id)
        if endpoint is None or not endpoint.state.can_take_requests:
            return await self._queue_again(session, readings, request, request.attempt)
        assigned = RequestAssigned(
            request_id=request.id,
            attempt=request.attempt,
            endpoint_id=request.endpoint_id,
            epoch=endpoint.epoch,
            is_starting=endpoint.state is EndpointState.STARTING,
        )
        return SubmitAccepted(queue_position=0, assigned=assigned)

    async def _queue_again(
        self, session: AsyncSession, readings: QueueReadings, request: Request, attempt: int
    ) -> SubmitAccepted:
        await requests.queue_again(session, request.id, attempt)
        readings.enter(request.id, request.model_id, request.tenant)
        return await self._queued(session, request.id)

    async def _queued(self, session: AsyncSession, request_id: str) -> SubmitAccepted:
        return SubmitAccepted(queue_position=await queue.queue_position(session, request_id))

    async def _note_loss(self, session: AsyncSession, message: SubmitRequest) -> None:
        """What it counts as is decided once the cause of the endpoint's end is known. One that
        perhaps never had the request says nothing about it."""
        if message.lost_endpoint_id is None:
            return
        self.changes.report_loss(message.lost_endpoint_id, self.clock.monotonic_s())
        if message.was_taken:
            await request_losses.add(
                session,
                message.request_id,
                message.lost_endpoint_id,
                has_progressed=message.has_progressed,
            )

    async def _ended(self, session: AsyncSession, request: Request) -> SubmitRefused:
        """Why it ended, told again: what was said then may have been lost."""
        error = request.error or f"the request has ended: {request.outcome}"
        if request.outcome is not RequestOutcome.MODEL_FAILED:
            reason = _REASONS.get(request.outcome, Reason.ENDED)
            return SubmitRefused(code=reason, message=error)
        model = await models.find(session, request.model_id, self.clock.monotonic_s())
        refusal = await self.admission.why_failed(session, model)
        # Nothing is wrong with it any more: the time it had to wait is over.
        return submit_refused(refusal or Refusal(Reason.MODEL_BACKING_OFF, error, 1))
