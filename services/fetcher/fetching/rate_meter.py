"""The rate at which fetches have lately brought bytes in, for the planner."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHORTEST_SPAN_S = 0.2  # shorter spans say more about chunk sizes than about the network


class RateMeter:
    """Bytes over the time in which at least one connection wanted some. The rest says nothing about
    a link: nobody fetched, the store was tried again after a pause, or all were busy with hashing.

    `busy` and `add` are called by the transfer, from any thread.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._num_busy, self._busy_since_s = 0, 0.0
        self._busy_s, self._bytes = 0.0, 0  # since the last answer that was new
        self._rate: float | None = None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Between enter and exit a connection waits for its turn on the card, or for bytes."""
        self._change(+1)
        try:
            yield
        finally:
            self._change(-1)

    def add(self, nbytes: int) -> None:
        with self._lock:
            self._bytes += nbytes

    def bytes_per_s(self) -> float | None:
        """The latest rate; None before bytes were wanted for long enough. It is that of all fetches
        together, and less than the link has where the store or the processor is the limit."""
        with self._lock:
            self._settle()
            if self._busy_s >= _SHORTEST_SPAN_S and self._bytes:
                self._rate = self._bytes / self._busy_s
                self._busy_s, self._bytes = 0.0, 0
            return self._rate

    def _change(self, step: int) -> None:
        with self._lock:
            self._settle()
            self._num_busy += step

    def _settle(self) -> None:
        now_s = self._monotonic_s()
        if self._num_busy:
            self._busy_s += now_s - self._busy_since_s
        self._busy_since_s = now_s
