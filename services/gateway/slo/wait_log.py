"""What one request waited for, and from when on. Pure: the caller brings the time."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from math import inf


class WaitFor(Enum):
    """What has to come next for a request to go on."""

    ENDPOINT = "endpoint"  # one that it is given to: it is in a queue, here or at the scheduler
    START = "start"  # its endpoint to serve, whose weights are there or not on their way yet
    WEIGHTS = "weights"  # its endpoint to serve, whose weights are on their way
    ENGINE = "engine"  # the next token, of an endpoint that serves and has it


@dataclass(frozen=True)
class _Mark:
    waits_for: WaitFor
    since_s: float


@dataclass
class WaitLog:
    """Moments are monotonic seconds. Whoever has arrived waits for an endpoint."""

    _marks: list[_Mark] = field(default_factory=lambda: [_Mark(WaitFor.ENDPOINT, -inf)])

    @property
    def waits_for(self) -> WaitFor:
        return self._marks[-1].waits_for

    @property
    def is_starting(self) -> bool:
        return self.waits_for in (WaitFor.START, WaitFor.WEIGHTS)

    def note(self, waits_for: WaitFor, now_s: float) -> None:
        """From now on. What was noted stays, also where it says that it began later."""
        if waits_for is not self.waits_for:
            self._marks.append(_Mark(waits_for, max(now_s, self._marks[-1].since_s)))

    def seconds(self, from_s: float, until_s: float) -> Mapping[WaitFor, float]:
        """Between two moments: how long for what. They add up to the whole time."""
        found: defaultdict[WaitFor, float] = defaultdict(float)
        for mark, following in pairwise([*self._marks, _Mark(WaitFor.ENDPOINT, inf)]):
            began_s, ended_s = max(mark.since_s, from_s), min(following.since_s, until_s)
            found[mark.waits_for] += max(0.0, ended_s - began_s)
        return found
