"""Limits open connections; closes the one that is idle for longest when one more comes. No I/O.

Every connection takes a descriptor, and without one nothing works: no database, no bus. Whoever
only holds connections open has idle ones; those with a request that is being answered stay.
"""

import logging
from typing import Protocol

from libs.common.clock import Clock

logger = logging.getLogger(__name__)

_LOG_AGAIN_S = 60.0  # a flood must not flood the log too


class LimitedConnection(Protocol):
    def close_now(self) -> None:
        """Close at once, whatever is unsent."""


class ConnectionLimiter:
    """Knows every open connection, and which of them are idle since when."""

    def __init__(self, max_connections: int, clock: Clock) -> None:
        assert max_connections >= 1
        self._max_connections, self._clock = max_connections, clock
        self._open: set[LimitedConnection] = set()
        self._idle: dict[LimitedConnection, None] = {}  # idle for longest comes first
        self._logged_s: float | None = None

    @property
    def num_open(self) -> int:
        return len(self._open)

    def admit(self, connection: LimitedConnection) -> bool:
        """Whether the new connection, which is idle as yet, may stay."""
        if len(self._open) >= self._max_connections:
            self._log_full()
            if not self._idle:
                return False
            self._evict(next(iter(self._idle)))
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def mark_busy(self, connection: LimitedConnection) -> None:
        """A request has arrived on it."""
        self._idle.pop(connection, None)

    def mark_idle(self, connection: LimitedConnection) -> None:
        """It has had its answer."""
        if connection in self._open:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def remove(self, connection: LimitedConnection) -> None:
        """It was closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _evict(self, connection: LimitedConnection) -> None:
        self.remove(connection)
        connection.close_now()

    def _log_full(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._logged_s is None or now_s - self._logged_s >= _LOG_AGAIN_S:
            self._logged_s = now_s
            logger.warning(
                "the limit of %d connections is reached: idle ones are closed for new ones",
                self._max_connections,
            )
