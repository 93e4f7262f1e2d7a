"""Receives everything that the bus brings for one request, and wakes whoever waits for it."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    RequestAssigned,
    RequestProgressed,
    RequestRefused,
    TokensGenerated,
)
from libs.common.bus.subjects import (
    REQUEST_ASSIGNED,
    REQUEST_PROGRESS,
    REQUEST_REFUSED,
    REQUEST_TOKENS,
)
from libs.common.clock import Clock
from libs.common.reasons import Reason
from services.gateway.generation.signal import Signal
from services.gateway.generation.token_log import OfferResult, TokenLog
from services.gateway.slo.engine_clock import EngineClock
from services.gateway.slo.wait_log import WaitFor, WaitLog

_WAITS_OF_PHASES = {
    "queued": WaitFor.ENDPOINT,
    "planned": WaitFor.START,
    "fetching": WaitFor.WEIGHTS,
    "starting": WaitFor.START,
    "ready": WaitFor.ENGINE,
}


class RequestInbox:
    """Enter it before anything is sent, so that no answer comes too early.

    `on_first_token` is called with each attempt that has had one.
    """

    def __init__(
        self,
        bus: Bus,
        request_id: str,
        log: TokenLog,
        clock: Clock,
        on_first_token: Callable[[int], None],
    ) -> None:
        self.log = log
        self.changed = Signal()
        self.assigned: RequestAssigned | None = None
        self.refused: RequestRefused | None = None
        self.progress: RequestProgressed | None = None
        self.is_submission_unanswered = False  # the latest one: no scheduler leads, or can write
        self.first_token_s: float | None = None
        self.last_token_s: float | None = None
        self.progressed_attempt = 0  # the latest that had a token
        self.waits = WaitLog()
        self.engine_clock = EngineClock()
        self._on_first_token = on_first_token
        self._bus, self._request_id, self._clock = bus, request_id, clock
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises BusError when the connection cannot take it."""
        async with AsyncExitStack() as stack:
            for subject, handler in (
                (REQUEST_TOKENS, self._on_tokens),
                (REQUEST_ASSIGNED, self._on_assigned),
                (REQUEST_PROGRESS, self._on_progress),
                (REQUEST_REFUSED, self._on_refused),
            ):
                subscription = await self._bus.subscribe(subject, self._request_id, handler)
                stack.push_async_callback(subscription.unsubscribe)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    @property
    def waits_for(self) -> Reason | None:
        """Why it is in the queue still, as the scheduler said last; None if it is not there."""
        if self.is_submission_unanswered:
            return Reason.SCHEDULER_UNAVAILABLE
        told = self.progress
        return told.reason if told is not None and told.phase == "queued" else None

    def begin_attempt(self, now_s: float) -> None:
        """The endpoint that had it is given up."""
        self.log.begin_attempt(self.log.attempt + 1)
        self.waits.note(WaitFor.ENDPOINT, now_s)

    def note_sent(self, now_s: float) -> None:
        """It is on its way to an endpoint, which serves unless it is known to start."""
        if self.waits.waits_for is WaitFor.ENDPOINT:
            self.waits.note(WaitFor.ENGINE, now_s)

    def note_not_taken(self, now_s: float) -> None:
        """That endpoint did not take it, or did not say so."""
        if self.waits.waits_for is WaitFor.ENGINE and not self.has_progressed:
            self.waits.note(WaitFor.ENDPOINT, now_s)

    async def _on_tokens(self, message: TokensGenerated) -> None:
        offer = self.log.offer(message)
        if offer is OfferResult.STALE:
            return
        if offer is OfferResult.TAKEN and message.ids:
            self.last_token_s = self._clock.monotonic_s()
            self.first_token_s = self.first_token_s or self.last_token_s
            self._note_progress()
        if offer is OfferResult.TAKEN:
            self.engine_clock.hear(message)
        self.changed.notify()

    @property
    def has_progressed(self) -> bool:
        """Whether the running attempt had a token."""
        return self.progressed_attempt == self.log.attempt

    def _note_progress(self) -> None:
        if not self.has_progressed:
            self.progressed_attempt = self.log.attempt
            self.waits.note(WaitFor.ENGINE, self._clock.monotonic_s())
            self._on_first_token(self.log.attempt)

    def assign(self, message: RequestAssigned) -> None:
        """From either way in which the scheduler tells; an older attempt's comes too late."""
        if self.assigned is None or message.attempt >= self.assigned.attempt:
            self.assigned = message
            self._note_start(message)
            self.changed.notify()

    def _note_start(self, message: RequestAssigned) -> None:
        is_of_attempt = message.attempt == self.log.attempt
        if is_of_attempt and message.is_starting and self.waits.waits_for is WaitFor.ENDPOINT:
            self.waits.note(WaitFor.START, self._clock.monotonic_s())

    def set_queue_position(self, position: int) -> None:
        """It waits. Nobody is woken: a thousand clients would be told at the same moment."""
        told = self.progress
        if told is None or (told.phase, told.queue_position) != ("queued", position):
            reason = told.reason if told is not None and told.phase == "queued" else None
            self.progress = RequestProgressed(
                request_id=self._request_id,
                phase="queued",
                queue_position=position,
                reason=reason,
            )

    async def _on_assigned(self, message: RequestAssigned) -> None:
        self.assign(message)

    async def _on_progress(self, message: RequestProgressed) -> None:
        self.progress = message
        self._note_phase(message)
        self.changed.notify()

    def _note_phase(self, message: RequestProgressed) -> None:
        """The scheduler hears later than this that tokens come. That a start has ended, or failed,
        says something to those who wait for it."""
        is_of_end = message.phase in ("queued", "ready")
        if self.has_progressed or (is_of_end and not self.waits.is_starting):
            return
        self.waits.note(_WAITS_OF_PHASES[message.phase], self._clock.monotonic_s())

    async def _on_refused(self, message: RequestRefused) -> None:
        self.refused = message
        self.changed.notify()
