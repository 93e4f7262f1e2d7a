"""A simulated network card: bytes take their time, and fetches share the rate as real ones do."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from libs.common.states import FetchClass
from services.fetcher.fetching.governor import Flow

_PRIORITY = {FetchClass.INTERACTIVE: 0, FetchClass.BACKGROUND: 1}
# What is sooner is not waited for: a timer for each small unit would cost more than it tells.
SHORTEST_WAIT_S = 0.002


@dataclass(eq=False)
class _Grant:
    payer: Callable[[], Flow]
    num_bytes: int
    order: int
    ticket: int
    granted: "asyncio.Future[None]"

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Who is smallest goes first, as with the real governor."""
        flow = self.payer()
        return (_PRIORITY[flow.fetch_class], flow.granted_bytes, self.order, self.ticket)


class SimulatedNic:
    """Moves one grant after the other. For one event loop."""

    def __init__(self, rate_bytes_per_s: int) -> None:
        self._rate_bytes_per_s = rate_bytes_per_s
        self._waiting: list[_Grant] = []
        self._moving: asyncio.Task[None] | None = None
        self._free_at_s = 0.0  # on the loop's clock
        self._num_tickets = 0

    async def move(self, payer: Callable[[], Flow], num_bytes: int, order: int) -> None:
        """Returns when the bytes are there. Without a limit at once."""
        if not self._rate_bytes_per_s:
            return
        loop = asyncio.get_running_loop()
        self._num_tickets += 1
        grant = _Grant(payer, num_bytes, order, self._num_tickets, loop.create_future())
        self._waiting.append(grant)
        if self._moving is None or self._moving.done():
            self._moving = asyncio.create_task(self._move_all(), name="nic")
        try:
            await grant.granted
        finally:
            if grant in self._waiting:
                self._waiting.remove(grant)

    async def _move_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            grant = min(self._waiting, key=lambda waiting: waiting.key)
            self._waiting.remove(grant)
            grant.payer().granted_bytes += grant.num_bytes
            seconds = grant.num_bytes / self._rate_bytes_per_s
            self._free_at_s = max(self._free_at_s, loop.time()) + seconds
            wait_s = self._free_at_s - loop.time()
            await asyncio.sleep(wait_s if wait_s > SHORTEST_WAIT_S else 0)
            if not grant.granted.done():
                grant.granted.set_result(None)
            await asyncio.sleep(0)  # so that it may ask for its next bytes, if its turn comes again
