"""A semaphore that is fair between tenants, with bounded queues. No threads, no I/O."""

import asyncio

from libs.common.fair_queue import FairQueue
from libs.common.reasons import Reason
from services.gateway.errors import NotServed

MAX_WAIT_S = 10.0  # a caller that waits longer is told to try again
MAX_WAITING = 512  # of all tenants
MAX_WAITING_EACH = 128  # of one tenant

_Waiter = asyncio.Future[None]


class FairSemaphore:
    """At most `num_permits` are taken at a time. Tenants that wait get the next one round-robin,
    the callers of each in order of arrival: one tenant's many callers only delay each other."""

    def __init__(
        self,
        num_permits: int,
        *,
        what: str,
        reason: Reason,
        max_wait_s: float | None = MAX_WAIT_S,
        max_waiting: int | None = MAX_WAITING,
    ) -> None:
        """`what` says in words for the client what is done too much. Without `max_waiting` or
        `max_wait_s` somebody else bounds how many wait, and how long."""
        assert num_permits >= 1
        self._num_free, self._max_waiting = num_permits, max_waiting
        self._what, self._reason, self._max_wait_s = what, reason, max_wait_s
        self._waiting: FairQueue[_Waiter] = FairQueue()

    async def acquire(self, tenant: str) -> None:
        """Raises NotServed when too many wait already, or after `max_wait_s`."""
        if self._num_free:
            self._num_free -= 1
            return
        self._bound_queues(tenant)
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.put(tenant, waiter)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiter
        except TimeoutError as exc:
            self._leave(tenant, waiter)
            raise self._overloaded() from exc
        except asyncio.CancelledError:
            self._leave(tenant, waiter)
            raise

    def release(self) -> None:
        """The next caller that waits has the permit from now on."""
        while self._waiting:
            waiter = self._waiting.take()
            if not waiter.done():  # else the caller has just given up
                waiter.set_result(None)
                return
        self._num_free += 1

    def _bound_queues(self, tenant: str) -> None:
        """For one more caller of this tenant. At the limit of all tenants the last caller in the
        longest queue is refused for it."""
        if self._max_waiting is None:
            return
        num_own = self._waiting.num_of(tenant)
        if num_own >= MAX_WAITING_EACH:
            raise self._overloaded()
        if len(self._waiting) < self._max_waiting:
            return
        longest, num_longest = self._waiting.longest()
        if num_longest <= num_own + 1:
            raise self._overloaded()
        last = self._waiting.take_last(longest)
        if not last.done():
            last.set_exception(self._overloaded())

    def _leave(self, tenant: str, waiter: _Waiter) -> None:
        if waiter.done() and not waiter.cancelled():
            if waiter.exception() is None:  # it was given at this very moment
                self.release()
            return
        self._waiting.remove(tenant, waiter)

    def _overloaded(self) -> NotServed:
        message = f"too many {self._what} at this moment, try again"
        return NotServed(message, self._reason)
