"""Knows whether the bus itself answers: while it is silent, nobody's silence means anything.

A server that hangs keeps its connections, so the client of it notices nothing for a long time.
"""

import asyncio

from libs.common.bus.bus import Bus
from libs.common.bus.messages import ResendTokens
from libs.common.bus.subjects import ENDPOINT_RESEND
from libs.common.clock import Clock
from libs.common.errors import BusError, BusNoResponders
from services.gateway.settings import Timing

# The server answers at once for an endpoint that nobody listens for.
_NOBODY = "nobody"
_PROBE = ResendTokens(request_id=_NOBODY, attempt=1, from_index=0)


class BusMonitor:
    """Asks the bus again and again. `run` it beside the requests."""

    def __init__(self, bus: Bus, clock: Clock, timing: Timing) -> None:
        self._bus, self._clock, self._timing = bus, clock, timing
        self._paused_at_s: float | None = None  # when it was last seen not to answer

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not await self._answers():
                self._paused_at_s = self._clock.monotonic_s()
            await asyncio.sleep(self._timing.bus_probe_s)

    def has_settled(self) -> bool:
        """Whether it has answered for so long that others have heard of it again, too."""
        now_s = self._clock.monotonic_s()
        if not self._bus.is_connected:
            self._paused_at_s = now_s
        since_s = self._paused_at_s
        return since_s is None or now_s - since_s > self._timing.reconnect_grace_s

    async def _answers(self) -> bool:
        timeout_s = self._timing.bus_timeout_s
        try:
            await self._bus.request(ENDPOINT_RESEND, _NOBODY, _PROBE, timeout_s=timeout_s)
        except BusNoResponders:
            return True
        except BusError:
            return False
        return True
