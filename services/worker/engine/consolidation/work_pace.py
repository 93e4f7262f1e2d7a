"""How often work that nobody waits for may come between the steps of an engine that is busy."""

import time
from collections.abc import Callable


class WorkPace:
    """Lets a piece of work run when those before it took less than their share of the time."""

    def __init__(
        self, busy_share: float, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._rest_per_s = 1 / busy_share - 1  # after so much work
        self._monotonic_s = monotonic_s
        self._free_at_s = 0.0  # when as much time has passed as the last piece has earned

    def run(self, piece: Callable[[], bool], *, is_busy: bool) -> bool:
        """Whether there was something to do, and it was done. An idle engine waits for nothing."""
        began_s = self._monotonic_s()
        if is_busy and began_s < self._free_at_s:
            return False
        has_worked = piece()
        ended_s = self._monotonic_s()
        self._free_at_s = ended_s + (ended_s - began_s) * self._rest_per_s
        return has_worked
