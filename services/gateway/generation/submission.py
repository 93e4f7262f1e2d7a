"""Submits one attempt to the leading scheduler, again and again, until it has an endpoint.

The repetition cures a lost message as well as a new leader: submissions are idempotent, and no
answer is no answer, not a refusal. Once accepted it is repeated with all that wait, in one message
(`waiting_requests.py`), and alone only when the scheduler does not know it to wait.
"""

import logging
from collections.abc import Callable
from math import inf
from typing import cast

from libs.common.bus.bus import Bus
from libs.common.bus.messages import RequestAssigned, SubmitRefused, SubmitReply
from libs.common.bus.subjects import REQUEST_SUBMIT
from libs.common.clock import Clock
from libs.common.errors import BusError
from libs.common.reasons import Reason
from services.gateway.errors import NotServed
from services.gateway.generation.job import Job, Loss
from services.gateway.generation.refusals import refusal_error, submit_error
from services.gateway.generation.request_inbox import RequestInbox
from services.gateway.generation.waiting_requests import WaitingRequests
from services.gateway.settings import Timing

logger = logging.getLogger(__name__)

_BUSY_TIMEOUTS = 6  # for so many timeouts one is asked again that answers others
_MAX_WAIT_S = 60.0  # without asking; whatever comes ends it sooner


class Submission:
    """One attempt's. `on_accepted` is called whenever the scheduler says so.

    With `is_accepted` the client was told already that its request is accepted: then silence and
    a full queue are waited out.
    """

    def __init__(
        self,
        job: Job,
        attempt: int,
        loss: Loss | None,
        inbox: RequestInbox,
        *,
        bus: Bus,
        clock: Clock,
        timing: Timing,
        waiting: WaitingRequests,
        on_accepted: Callable[[], None],
        is_accepted: bool,
    ) -> None:
        self._job, self._attempt, self._loss = job, attempt, loss
        self._inbox, self._bus, self._clock, self._timing = inbox, bus, clock, timing
        self._waiting, self._on_accepted = waiting, on_accepted
        self._is_accepted = is_accepted
        self._began_s = clock.monotonic_s()
        self._next_s = self._began_s  # when to ask again

    async def until_assigned(self) -> RequestAssigned:
        """Raises ApiError when refused, or when no scheduler answers one not accepted yet."""
        return await self.assigned_after(0.0)

    async def assigned_after(self, timeout_s: float) -> RequestAssigned:
        """The assignment a little later: the scheduler may have found another endpoint since."""
        try:
            if timeout_s > 0:
                await self._step(timeout_s)
            while (assigned := self._assigned()) is None:
                await self._step(_MAX_WAIT_S)
                self._note_acceptance()
        finally:
            if self._waiting.remove(self._job.request_id):
                self._next_s = self._clock.monotonic_s() + self._timing.repeat_s
        self._inbox.is_submission_unanswered = False
        self._accepted()
        return assigned

    def still_queued(self, position: int) -> None:
        """The client is told when it is told something anyway."""
        self._inbox.is_submission_unanswered = False
        self._inbox.set_queue_position(position)

    def not_queued(self) -> None:
        self._next_s = self._clock.monotonic_s()
        self._inbox.changed.notify()

    def not_answered(self) -> None:
        self._inbox.is_submission_unanswered = True

    async def _step(self, timeout_s: float) -> None:
        """Ask when it is time to, else wait for a message."""
        self._raise_if_refused()
        wait_s = self._next_s - self._clock.monotonic_s()
        if wait_s <= 0:
            await self._ask()
        else:
            await self._inbox.changed.wait(min(timeout_s, wait_s))
        self._raise_if_refused()

    async def _ask(self) -> None:
        now_s = self._clock.monotonic_s()
        message = self._job.submission(self._attempt, self._loss, now_s)
        timeout_s = self._timing.call_timeout_s
        try:
            reply = await self._bus.request(REQUEST_SUBMIT, None, message, timeout_s=timeout_s)
        except BusError as exc:
            self._next_s = self._clock.monotonic_s() + self._timing.retry_s
            self._unanswered(exc)
            return
        self._next_s = self._clock.monotonic_s() + self._timing.repeat_s
        self._answered(cast("SubmitReply", reply))

    def _unanswered(self, exc: BusError) -> None:
        self._inbox.is_submission_unanswered = True
        self._note_acceptance()
        if self._is_accepted:
            return
        # One that answers others is busy and answers this one later, but not for ever.
        now_s, timeout_s = self._clock.monotonic_s(), self._timing.submit_timeout_s
        silent_s = now_s - max(self._began_s, self._waiting.last_answer_s)
        if silent_s >= timeout_s or now_s - self._began_s >= _BUSY_TIMEOUTS * timeout_s:
            message = "no scheduler answers now"
            raise NotServed(message, Reason.SCHEDULER_UNAVAILABLE) from exc

    def _answered(self, reply: SubmitReply) -> None:
        self._inbox.is_submission_unanswered = False
        self._waiting.last_answer_s = self._clock.monotonic_s()
        result = reply.result
        if not isinstance(result, SubmitRefused):
            if result.assigned is not None:
                self._inbox.assign(result.assigned)
            else:
                self._inbox.set_queue_position(result.queue_position)
                self._waiting.add(self._job.request_id, self._attempt, self)
                self._next_s = inf
            self._accepted()
        elif self._is_accepted and result.code in (Reason.QUEUE_FULL, Reason.TENANT_LIMIT):
            # It was admitted once; others came since. Its client is not turned away now.
            logger.info("request %s waits for a place in the queue again", self._job.request_id)
        else:
            raise submit_error(result, self._job.timeout_s, self._timing.deadline_s)

    def _note_acceptance(self) -> None:
        """Who is told how its cold start goes was accepted: only the reply was lost, or late."""
        if self._inbox.progress is not None:
            self._accepted()

    def _accepted(self) -> None:
        self._is_accepted = True
        self._on_accepted()

    def _assigned(self) -> RequestAssigned | None:
        assigned = self._inbox.assigned
        return assigned if assigned is not None and assigned.attempt == self._attempt else None

    def _raise_if_refused(self) -> None:
        refused = self._inbox.refused
        if refused is not None and refused.attempt == self._attempt:
            raise refusal_error(refused)
