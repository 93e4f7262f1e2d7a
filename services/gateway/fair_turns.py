"""Turns at something of which there are few, shared fairly between tenants. No threads, no I/O."""

import asyncio
from collections import OrderedDict, deque

from services.gateway.errors import Overloaded

PATIENCE_S = 10.0  # who waits longer is told to come again
MAX_WAITING = 512  # of all tenants
MAX_WAITING_EACH = 128

_Turn = asyncio.Future[None]


class Turns:
    """At most `num_turns` are taken at a time. Tenants that wait get the next one in rotation, the
    requests of each in order of arrival, so that a tenant's crowd only delays itself."""

    def __init__(
        self, num_turns: int, *, what: str, code: str, patience_s: float = PATIENCE_S
    ) -> None:
        """`what` takes the turns, in words for the client."""
        assert num_turns >= 1
        self._num_free = num_turns
        self._what, self._code, self._patience_s = what, code, patience_s
        self._waiting: OrderedDict[str, deque[_Turn]] = OrderedDict()  # whose turn is next, first

    async def take(self, tenant: str) -> None:
        """Raises Overloaded when too many wait already, or after `patience_s`."""
        if self._num_free:
            self._num_free -= 1
            return
        self._make_room(tenant)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except TimeoutError as exc:
            self._leave(tenant, turn)
            raise self._overloaded() from exc
        except asyncio.CancelledError:
            self._leave(tenant, turn)
            raise

    def give_back(self) -> None:
        """The next of those who wait has it from now on."""
        while self._waiting:
            tenant, queue = next(iter(self._waiting.items()))
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(tenant)
            else:
                del self._waiting[tenant]
            if not turn.done():  # else who waited has just given up
                turn.set_result(None)
                return
        self._num_free += 1

    def _make_room(self, tenant: str) -> None:
        """For one more of this tenant. In a full house who came last of the largest crowd goes."""
        num_own = len(self._waiting.get(tenant, ()))
        if num_own >= MAX_WAITING_EACH:
            raise self._overloaded()
        if sum(map(len, self._waiting.values())) < MAX_WAITING:
            return
        crowd = max(self._waiting.values(), key=len)
        if len(crowd) <= num_own + 1:
            raise self._overloaded()
        last = crowd.pop()
        if not last.done():
            last.set_exception(self._overloaded())

    def _leave(self, tenant: str, turn: _Turn) -> None:
        if turn.done() and not turn.cancelled():
            if turn.exception() is None:  # it was given at this very moment
                self.give_back()
            return
        queue = self._waiting.get(tenant)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[tenant]

    def _overloaded(self) -> Overloaded:
        message = f"too many {self._what} at this moment, try again"
        return Overloaded(message, code=self._code, retry_after_s=2)
