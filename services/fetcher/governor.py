"""The node's network card as a budget: a token bucket that two classes and many flows share.

Interactive flows share the rate fairly; background flows get what interactive leaves. Within a
flow the chunk that comes first in the wanted order goes first, so that the readable prefix grows.
The bucket may go into debt by one grant, so a grant never waits for its whole size to build up.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from libs.common.states import FetchClass
from services.fetcher.errors import FetchCancelled

_GRANT_S = 0.005  # how long a background grant can delay interactive traffic
_MIN_GRANT_BYTES = 64 * 1024
_MAX_GRANT_BYTES = 4 * 2**20
_FREE_GRANT_BYTES = 512 * 1024  # without a limit: large enough to hash well, still in the L2 cache
_BURST_S = 0.02  # unused budget is kept this long
_SHORTEST_WAIT_S = 0.0005
_LOOK_AGAIN_S = 1.0
_PRIORITY = {FetchClass.INTERACTIVE: 0, FetchClass.BACKGROUND: 1}


class Flow:
    """One fetch's share. `fetch_class` may change while it runs."""

    def __init__(self, fetch_class: FetchClass, granted_bytes: int) -> None:
        self.fetch_class = fetch_class
        self.granted_bytes = granted_bytes
        self.is_closed = False


@dataclass(frozen=True, eq=False)
class _Waiter:
    flow: Flow
    order: int
    ticket: int

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Who is smallest goes first. Computed anew each time: class and share change."""
        flow = self.flow
        return (_PRIORITY[flow.fetch_class], flow.granted_bytes, self.order, self.ticket)


class NicGovernor:
    """Called from the threads that move bytes. `rate_bytes_per_s` of 0 means no limit."""

    def __init__(
        self, rate_bytes_per_s: int, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate_bytes_per_s = rate_bytes_per_s
        self._monotonic_s = monotonic_s
        self._level_bytes = 0.0
        self._filled_at_s = monotonic_s()
        self._flows: set[Flow] = set()
        self._waiting: set[_Waiter] = set()
        self._num_tickets = 0
        self._changed = threading.Condition()

    @property
    def grant_bytes(self) -> int:
        """How much to ask for at once."""
        if not self.rate_bytes_per_s:
            return _FREE_GRANT_BYTES
        wanted = int(self.rate_bytes_per_s * _GRANT_S)
        return max(_MIN_GRANT_BYTES, min(wanted, _MAX_GRANT_BYTES))

    def open_flow(self, fetch_class: FetchClass) -> Flow:
        """A flow that joins late starts level with the others: it cannot claim the past."""
        with self._changed:
            flow = Flow(fetch_class, min((f.granted_bytes for f in self._flows), default=0))
            self._flows.add(flow)
            return flow

    def close_flow(self, flow: Flow) -> None:
        """Its waiting threads get FetchCancelled."""
        with self._changed:
            flow.is_closed = True
            self._flows.discard(flow)
            self._changed.notify_all()

    def set_class(self, flow: Flow, fetch_class: FetchClass) -> None:
        with self._changed:
            flow.fetch_class = fetch_class
            self._changed.notify_all()

    def acquire(self, flow: Flow, nbytes: int, *, order: int = 0) -> None:
        """Block until `nbytes` may move. Raises FetchCancelled when the flow was closed."""
        with self._changed:
            if self.rate_bytes_per_s:
                self._wait_for_turn(flow, order)
            if flow.is_closed:
                raise FetchCancelled("the fetch was cancelled")
            self._level_bytes -= nbytes
            flow.granted_bytes += nbytes

    def refund(self, flow: Flow, nbytes: int) -> None:
        """Give back what a grant did not move."""
        with self._changed:
            self._level_bytes += nbytes
            flow.granted_bytes -= nbytes
            self._changed.notify_all()

    def _wait_for_turn(self, flow: Flow, order: int) -> None:
        self._num_tickets += 1
        waiter = _Waiter(flow, order, self._num_tickets)
        self._waiting.add(waiter)
        try:
            while not flow.is_closed and (wait_s := self._wait_s(waiter)) > 0:
                self._changed.wait(wait_s)
        finally:
            self._waiting.discard(waiter)
            self._changed.notify_all()

    def _wait_s(self, waiter: _Waiter) -> float:
        """How long to wait before looking again; 0 means: go."""
        if waiter is not min(self._waiting, key=lambda other: other.key):
            return _LOOK_AGAIN_S  # whoever is first notifies when it goes
        now_s = self._monotonic_s()
        earned = (now_s - self._filled_at_s) * self.rate_bytes_per_s
        self._filled_at_s = now_s
        self._level_bytes = min(self._level_bytes + earned, _BURST_S * self.rate_bytes_per_s)
        if self._level_bytes > 0:
            return 0
        return max(-self._level_bytes / self.rate_bytes_per_s, _SHORTEST_WAIT_S)
