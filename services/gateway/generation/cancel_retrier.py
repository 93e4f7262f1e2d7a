"""Sends cancellations and acknowledgements in the background, again until they are answered.

The client has its answer, or is gone; nobody waits for this. But a lost cancellation leaves a
worker generating for nobody, and a lost acknowledgement its tokens in memory.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from libs.common.bus.bus import Bus
from libs.common.bus.messages import CancelRequest
from libs.common.bus.subjects import REQUEST_CANCEL
from libs.common.clock import Clock
from libs.common.errors import BusError, BusNoResponders
from services.gateway.generation.endpoint_client import EndpointClient
from services.gateway.settings import Timing

logger = logging.getLogger(__name__)


class CancelRetrier:
    """Each message is a task of its own, which ends by an answer or after `cancel_timeout_s`."""

    def __init__(self, bus: Bus, clock: Clock, timing: Timing) -> None:
        self._bus, self._clock, self._timing = bus, clock, timing
        self._tasks: set[asyncio.Task[None]] = set()

    def acknowledge(self, endpoint: EndpointClient, request_id: str, attempt: int) -> None:
        """The finish was seen."""
        self._repeat(lambda: endpoint.acknowledge(request_id, attempt), may_be_gone=True)

    def cancel(self, endpoint: EndpointClient, request_id: str, attempt: int) -> None:
        """Its tokens are not wanted any more; then it may forget them."""

        async def tell() -> None:
            await endpoint.cancel(request_id, attempt)
            await endpoint.acknowledge(request_id, attempt)

        self._repeat(tell, may_be_gone=True)

    def cancel_waiting(self, tenant: str, request_id: str, attempt: int) -> None:
        """To the scheduler: it needs no endpoint any more."""
        message = CancelRequest(request_id=request_id, attempt=attempt, tenant=tenant)
        timeout_s = self._timing.call_timeout_s

        async def tell() -> None:
            await self._bus.request(REQUEST_CANCEL, None, message, timeout_s=timeout_s)

        self._repeat(tell, may_be_gone=False)  # without a leader now, there will be one soon

    async def close(self, timeout_s: float) -> None:
        """Wait for what is still unanswered, then give up."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in list(self._tasks):
            task.cancel()

    def _repeat(self, tell: Callable[[], Awaitable[None]], *, may_be_gone: bool) -> None:
        task = asyncio.create_task(self._until_answered(tell, may_be_gone))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_answered(self, tell: Callable[[], Awaitable[None]], may_be_gone: bool) -> None:
        """An endpoint that nobody answers for, nor after the time to reconnect, is gone with all
        that it held."""
        ends_s = self._clock.monotonic_s() + self._timing.cancel_timeout_s
        pause_s, was_absent = self._timing.retry_s, False
        while True:
            try:
                return await tell()
            except BusError as exc:
                is_absent = isinstance(exc, BusNoResponders)
                if is_absent and was_absent and may_be_gone:
                    return None
                if is_absent:
                    pause_s = self._timing.reconnect_grace_s
                was_absent = is_absent
                if self._clock.monotonic_s() + pause_s > ends_s:
                    logger.info("a cancellation or acknowledgement was not answered: %s", exc)
                    return None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._timing.repeat_s)
