"""Follows the tokens of one accepted attempt until it finishes or its endpoint is lost.

Any message may be lost. So on a gap, after 2 s of silence, when its route is withdrawn and when the
scheduler tells that the request waits again, the endpoint is asked to send again from where the log
ends; its answer also tells whether it still has the request at all.
"""

from libs.common.clock import Clock
from services.gateway.generation.bus_monitor import BusMonitor
from services.gateway.generation.endpoint_client import EndpointClient, Liveness
from services.gateway.generation.job import Job
from services.gateway.generation.refusals import refusal_error, slow_client_error
from services.gateway.generation.request_inbox import RequestInbox
from services.gateway.routing.route_table import RouteTable
from services.gateway.settings import Timing

_MAX_SILENT = 2  # questions without an answer, before the endpoint counts as lost


class TokenFollower:
    """Waits on the inbox; checks that the endpoint lives where the bus alone cannot tell."""

    def __init__(
        self,
        job: Job,
        endpoint: EndpointClient,
        inbox: RequestInbox,
        *,
        monitor: BusMonitor,
        routes: RouteTable,
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._job, self._endpoint, self._inbox = job, endpoint, inbox
        self._monitor, self._routes, self._clock, self._timing = monitor, routes, clock, timing
        self._must_check_now = False  # until it answers
        self._is_queued_again = False  # as the scheduler says
        self._told = inbox.progress
        self._num_silent = 0

    async def until_finished(self) -> bool:
        """False when the endpoint is lost. Raises ApiError."""
        with self._routes.watching(self._endpoint.endpoint_id, self._on_withdrawn):
            return await self._until_finished()

    async def _until_finished(self) -> bool:
        log = self._inbox.log
        while log.finish is None:
            self._raise_if_refused()
            if log.is_full:
                await self._until_read()
            elif not log.has_gap and await self._received_something():
                continue
            if log.finish is None and not await self._is_alive():
                return False
        return True

    async def _received_something(self) -> bool:
        """Whether anything came before the silence grew too long."""
        log = self._inbox.log
        before = (log.next_index, log.finish, log.has_gap, self._inbox.refused)
        ends_s = self._clock.monotonic_s() + self._timing.silence_s
        while (log.next_index, log.finish, log.has_gap, self._inbox.refused) == before:
            left_s = ends_s - self._clock.monotonic_s()
            if left_s <= 0 or self._must_check():
                return False
            await self._inbox.changed.wait(left_s)
        return True

    def _on_withdrawn(self) -> None:
        self._must_check_now = True
        self._inbox.changed.notify()

    def _must_check(self) -> bool:
        """An endpoint that failed while it started never had a route: the queue tells of it."""
        told = self._inbox.progress
        if told is not self._told:
            self._told = told
            self._is_queued_again = told is not None and told.phase == "queued"
            self._must_check_now |= self._is_queued_again
        return self._must_check_now

    async def _until_read(self) -> None:
        """The client reads slowly: wait for room. Raises ApiError after 30 s without any."""
        ends_s = self._clock.monotonic_s() + self._timing.slow_client_s
        while self._inbox.log.is_full:
            left_s = ends_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise slow_client_error(self._timing.slow_client_s)
            await self._inbox.changed.wait(left_s)

    async def _is_alive(self) -> bool:
        """Ask for what is missing. Silence counts only while the bus itself answers, or where the
        scheduler has given the endpoint up: an overloaded gateway hears the bus late."""
        log = self._inbox.log
        liveness = await self._endpoint.resend(self._job.request_id, log.attempt, log.next_index)
        if liveness is Liveness.UNKNOWN:
            return log.finish is not None  # it may have ended while we asked
        if liveness is Liveness.ALIVE:
            self._num_silent, self._must_check_now, self._is_queued_again = 0, False, False
        elif self._is_queued_again or self._monitor.has_settled():
            self._num_silent += 1
        await self._pause(liveness)
        return self._num_silent < _MAX_SILENT

    async def _pause(self, liveness: Liveness) -> None:
        """Let what was sent again arrive before asking for it once more."""
        log = self._inbox.log
        if log.finish is None and (log.has_gap or liveness is Liveness.SILENT):
            await self._inbox.changed.wait(self._timing.retry_s)

    def _raise_if_refused(self) -> None:
        refused = self._inbox.refused
        if refused is not None and refused.attempt == self._inbox.log.attempt:
            raise refusal_error(refused)
