"""A virtual clock with what is to happen at which moment. Time passes from event to event.

Events of the same moment happen in the order in which they were planned, so that a run is
repeatable.
"""

from collections.abc import Callable
from heapq import heappop, heappush

Action = Callable[[], None]


class Event:
    """One thing that is planned; `cancel` makes it not happen."""

    __slots__ = ("action", "at_s")

    def __init__(self, at_s: float, action: Action) -> None:
        self.at_s = at_s
        self.action: Action | None = action

    def cancel(self) -> None:
        self.action = None


class EventQueue:
    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Event]] = []
        self._num_planned = 0

    def at(self, at_s: float, action: Action) -> Event:
        """Plan it; a moment that has passed counts as now."""
        event = Event(max(at_s, self.now_s), action)
        self._num_planned += 1
        heappush(self._heap, (event.at_s, self._num_planned, event))
        return event

    def after(self, delay_s: float, action: Action) -> Event:
        return self.at(self.now_s + delay_s, action)

    @property
    def next_at_s(self) -> float | None:
        """None when nothing is planned."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heappop(heap)
        return heap[0][0] if heap else None

    def advance(self) -> None:
        """Go to the next event and let it happen."""
        at_s, _, event = heappop(self._heap)
        if event.action is not None:
            self.now_s = at_s
            event.action()

    def run_until(self, at_s: float) -> None:
        """Let everything happen that is planned up to then, that moment included."""
        heap = self._heap
        while heap and heap[0][0] <= at_s:
            self.advance()
        self.now_s = max(self.now_s, at_s)
