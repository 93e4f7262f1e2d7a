"""How many connections there may be at once, and who goes when one more comes. No I/O.

Every connection takes a descriptor, and without one nothing works: no database, no bus. So a full
house makes room for whoever comes by closing the connection that has been idle for longest, which
is how strangers look who only hold connections open; those with a request at work stay.
"""

import logging
from typing import Protocol

from libs.common.clock import Clock

logger = logging.getLogger(__name__)

_SAY_AGAIN_S = 60.0  # a flood must not flood the log too


class Guest(Protocol):
    def hang_up(self) -> None:
        """Close at once, whatever is unsent."""


class Crowd:
    def __init__(self, max_connections: int, clock: Clock) -> None:
        assert max_connections >= 1
        self._max_connections, self._clock = max_connections, clock
        self._present: set[Guest] = set()
        self._idle: dict[Guest, None] = {}  # who has been idle for longest comes first
        self._said_s: float | None = None

    @property
    def num_present(self) -> int:
        return len(self._present)

    def admit(self, guest: Guest) -> bool:
        """Whether the newcomer, which is idle as yet, may stay."""
        if len(self._present) >= self._max_connections:
            self._say_full()
            if not self._idle:
                return False
            self._send_away(next(iter(self._idle)))
        self._present.add(guest)
        self._idle[guest] = None
        return True

    def busy(self, guest: Guest) -> None:
        """A request has arrived on it."""
        self._idle.pop(guest, None)

    def idle(self, guest: Guest) -> None:
        """It has had its answer."""
        if guest in self._present:
            self._idle.pop(guest, None)
            self._idle[guest] = None

    def left(self, guest: Guest) -> None:
        self._present.discard(guest)
        self._idle.pop(guest, None)

    def _send_away(self, guest: Guest) -> None:
        self.left(guest)
        guest.hang_up()

    def _say_full(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._said_s is None or now_s - self._said_s >= _SAY_AGAIN_S:
            self._said_s = now_s
            logger.warning(
                "the limit of %d connections is reached: idle ones are closed for new ones",
                self._max_connections,
            )
