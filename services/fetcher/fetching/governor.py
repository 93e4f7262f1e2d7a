"""The node's network card as a budget: a token bucket that two classes and many flows share.

Interactive flows share the rate fairly; background flows get what interactive leaves, and where the
card has no limit they stand still while an interactive one is open: nobody knows what it leaves.
Within a flow the chunk that comes first in the wanted order goes first, so that the readable prefix
grows. The bucket itself may be shared with the node's workers, whose activations use the same card.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from libs.common.network.token_bucket import BURST_S, SHORTEST_WAIT_S, TokenBucket
from libs.common.states import FetchClass
from services.fetcher.errors import FetchCancelled

_GRANT_S = 0.016  # how long a background grant can delay interactive traffic
_LONE_GRANT_S = 0.064  # or where nobody else uses the card: each grant costs a thread its wake-up
_ALONE_AFTER_S = 1.0  # since others used the card
_MIN_GRANT_BYTES = 64 * 1024
_MAX_GRANT_BYTES = 4 * 2**20
_FREE_GRANT_BYTES = 512 * 1024  # without a limit: large enough to hash well, still in the L2 cache
_LOOK_AGAIN_S = 1.0
_MAX_LATENESS_S = BURST_S / 2  # with which the card may be used again: the burst makes up for it
_PRIORITY = {FetchClass.INTERACTIVE: 0, FetchClass.BACKGROUND: 1}


class Bucket(Protocol):
    """What the card still allows; the NIC's rate limiter has the one that processes share."""

    def take(self, num_bytes: int) -> float:
        """0 when the bytes may move now and are booked, otherwise when to ask again, in seconds."""

    def give_back(self, num_bytes: int) -> None: ...


class OwnBucket:
    """Of this process alone, for one thread at a time."""

    def __init__(self, rate_bytes_per_s: int, monotonic_s: Callable[[], float]) -> None:
        self._budget = TokenBucket(rate_bytes_per_s, 0.0, monotonic_s())
        self._monotonic_s = monotonic_s

    def take(self, num_bytes: int) -> float:
        self._budget = self._budget.at(self._monotonic_s())
        wait_s = self._budget.wait_s()
        if not wait_s:
            self._budget = self._budget.take(num_bytes)
        return wait_s

    def give_back(self, num_bytes: int) -> None:
        self._budget = self._budget.take(-num_bytes)


class Flow:
    """One fetch's share. `fetch_class` may change while it runs."""

    def __init__(self, fetch_class: FetchClass, granted_bytes: int) -> None:
        self.fetch_class = fetch_class
        self.granted_bytes = granted_bytes
        self.is_closed = False


class _Waiter:
    """A thread that waits for its turn; `turn` wakes it alone, else it looks at `looks_at_s`."""

    def __init__(
        self, payer: Callable[[], Flow], order: int, ticket: int, lock: threading.Lock
    ) -> None:
        self._payer, self.order, self.ticket = payer, order, ticket
        self.turn = threading.Condition(lock)
        self.looks_at_s = 0.0

    @property
    def flow(self) -> Flow:
        return self._payer()

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Who is smallest goes first. Computed anew each time: class and share change."""
        flow = self.flow
        return (_PRIORITY[flow.fetch_class], flow.granted_bytes, self.order, self.ticket)


class NicGovernor:
    """Called from the threads that move bytes. `rate_bytes_per_s` of 0 means no limit."""

    def __init__(
        self,
        rate_bytes_per_s: int,
        *,
        bucket: Bucket | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bucket` has the same rate and is shared with others; without one the card is ours."""
        self.rate_bytes_per_s = rate_bytes_per_s
        self._bucket = bucket or OwnBucket(rate_bytes_per_s, monotonic_s)
        self._monotonic_s = monotonic_s
        self._free_at_s = monotonic_s()  # by our own grants; what others use comes on top
        self._others_until_s = 0.0  # the node's workers are taken to use the card until then
        self._flows: set[Flow] = set()
        self._waiting: set[_Waiter] = set()
        self._num_tickets = 0
        self._lock = threading.Lock()

    @property
    def grant_bytes(self) -> int:
        """How much to ask for at once."""
        if not self.rate_bytes_per_s:
            return _FREE_GRANT_BYTES
        grant_s = _LONE_GRANT_S if self._is_alone else _GRANT_S
        wanted = int(self.rate_bytes_per_s * grant_s)
        return max(_MIN_GRANT_BYTES, min(wanted, _MAX_GRANT_BYTES))

    def open_flow(self, fetch_class: FetchClass) -> Flow:
        """A flow that joins late starts level with the others: it cannot claim the past."""
        with self._lock:
            flow = Flow(fetch_class, min((f.granted_bytes for f in self._flows), default=0))
            self._flows.add(flow)
            return flow

    def close_flow(self, flow: Flow) -> None:
        """Its waiting threads get FetchCancelled."""
        with self._lock:
            flow.is_closed = True
            self._flows.discard(flow)
            for waiter in self._waiting:
                if waiter.flow is flow:
                    waiter.turn.notify()
            self._wake_first()

    def set_class(self, flow: Flow, fetch_class: FetchClass) -> None:
        with self._lock:
            flow.fetch_class = fetch_class
            self._wake_first()

    def reconsider(self) -> None:
        """Some of those who wait may be paid for by a better flow now."""
        with self._lock:
            self._wake_first()

    def acquire(self, flow: Flow, nbytes: int, *, order: int = 0) -> None:
        """Block until `nbytes` may move. Raises FetchCancelled when the flow was closed."""
        self.acquire_from(lambda: flow, nbytes, order=order)

    def acquire_from(self, payer: Callable[[], Flow], nbytes: int, *, order: int = 0) -> Flow:
        """As `acquire`; the flow that the bytes are booked on.

        `payer` is asked anew while it waits. A fetch may come to want bytes that a background one
        waits to move: would it not pay for them, each of the two would wait for the other.
        """
        with self._lock:
            if not self._may_go_at_once(payer()):
                self._wait_for_turn(payer, nbytes, order)
            flow = payer()
            if not flow.is_closed:
                flow.granted_bytes += nbytes
            self._wake_if_late()
            if flow.is_closed:
                raise FetchCancelled("the fetch was cancelled")
            return flow

    def refund(self, flow: Flow, nbytes: int) -> None:
        """Give back what a grant did not move."""
        with self._lock:
            self._bucket.give_back(nbytes)
            self._free_at_s -= self._seconds(nbytes)
            flow.granted_bytes -= nbytes
            self._wake_first()

    def _may_go_at_once(self, flow: Flow) -> bool:
        """Without a limit nobody waits, but background still gives way."""
        is_first = flow.fetch_class is FetchClass.INTERACTIVE or not self._is_interactive
        return not self.rate_bytes_per_s and is_first

    @property
    def _is_interactive(self) -> bool:
        return any(flow.fetch_class is FetchClass.INTERACTIVE for flow in self._flows)

    def _wait_for_turn(self, payer: Callable[[], Flow], nbytes: int, order: int) -> None:
        """Returns with the bytes booked, unless the flow was closed."""
        self._num_tickets += 1
        waiter = _Waiter(payer, order, self._num_tickets, self._lock)
        self._waiting.add(waiter)
        try:
            while not payer().is_closed and (wait_s := self._book(waiter, nbytes)) > 0:
                waiter.looks_at_s = self._monotonic_s() + wait_s
                waiter.turn.wait(wait_s)
        finally:
            self._waiting.discard(waiter)

    def _wake_first(self) -> None:
        """Only the first can go: waking the others would cost them a look at the queue each."""
        if self._waiting:
            self._first.turn.notify()

    def _wake_if_late(self) -> None:
        """After a grant: whoever got it mostly comes back and is first again before it is paid for,
        so the next one is woken only where it would look too late."""
        if not self._waiting:
            return
        first = self._first
        if self.rate_bytes_per_s:
            is_late = first.looks_at_s > self._free_at_s + _MAX_LATENESS_S
        else:
            is_late = self._may_go_at_once(first.flow)
        if is_late:
            first.turn.notify()

    def _book(self, waiter: _Waiter, nbytes: int) -> float:
        """How long to wait before looking again; 0 means: booked, go."""
        if waiter is not self._first:
            return self._until_turn_s(waiter)
        if not self.rate_bytes_per_s and not self._may_go_at_once(waiter.flow):
            return _LOOK_AGAIN_S  # until the last interactive flow is closed
        return self._free_in_s or self._take(nbytes)

    def _take(self, nbytes: int) -> float:
        """From the bucket, where our own grants are paid for: what is still owed, others used."""
        wait_s = self._bucket.take(nbytes)
        if wait_s > SHORTEST_WAIT_S:
            self._others_until_s = self._monotonic_s() + _ALONE_AFTER_S
        if not wait_s:
            earliest_s = self._monotonic_s() - BURST_S
            self._free_at_s = max(self._free_at_s, earliest_s) + self._seconds(nbytes)
        return wait_s

    def _until_turn_s(self, waiter: _Waiter) -> float:
        """The second looks when the grant of the first will be paid for; others are woken."""
        is_second = sum(other.key < waiter.key for other in self._waiting) == 1
        if not self.rate_bytes_per_s or not is_second:
            return _LOOK_AGAIN_S
        grant_s = self._seconds(self.grant_bytes)
        return min(self._free_in_s + grant_s + _MAX_LATENESS_S, _LOOK_AGAIN_S)

    @property
    def _is_alone(self) -> bool:
        return len(self._flows) <= 1 and self._monotonic_s() >= self._others_until_s

    @property
    def _free_in_s(self) -> float:
        return max(0.0, self._free_at_s - self._monotonic_s())

    @property
    def _first(self) -> _Waiter:
        return min(self._waiting, key=lambda waiter: waiter.key)

    def _seconds(self, nbytes: int) -> float:
        """How long they take the card; 0 without a limit."""
        return nbytes / self.rate_bytes_per_s if self.rate_bytes_per_s else 0.0
