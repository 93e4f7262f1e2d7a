"""How fast the queues of models move: what a client is told whose request finds one full. Pure."""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from math import ceil

WINDOW_S = 60.0  # what was longer ago says nothing about now
MAX_NOTED = 1000  # of a model; enough for a mean
MAX_WAIT_S = 300.0  # nobody can see further


def _moments() -> defaultdict[str, deque[float]]:
    return defaultdict(lambda: deque(maxlen=MAX_NOTED))


@dataclass
class QueueSpeed:
    """Remembers when requests that waited were given to an endpoint; monotonic seconds."""

    _assigned_at_s: defaultdict[str, deque[float]] = field(default_factory=_moments)  # by model

    def note_assigned(self, model_id: str, now_s: float) -> None:
        self._assigned_at_s[model_id].append(now_s)

    def predicted_wait_s(self, model_id: str, num_waiting: int, now_s: float) -> int | None:
        """How long those who wait will take at the present speed; None if nothing moves."""
        moments = self._assigned_at_s.get(model_id)
        while moments and now_s - moments[0] > WINDOW_S:
            moments.popleft()
        if not moments:
            self._assigned_at_s.pop(model_id, None)
            return None
        each_s = max(now_s - moments[0], 1.0) / len(moments)
        return ceil(min(max(1.0, num_waiting * each_s), MAX_WAIT_S))
