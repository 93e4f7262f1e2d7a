"""What weights in a host cache save, and whether that is worth their memory. Pure.

A start that finds its weights takes as long as its launch. What is saved counts as far as the first
token would come after the model's target: who starts in time needs nothing. In the unit of
`keep_alive.py`, seconds of memory that is held for nobody, it is worth it if

    share x saved x price > fetch + (until - from)

where the weights are held while they come and through the window, and `share` of the gaps end in
it. Host memory is worth a tenth of device memory: there is more of it, and what is held there gives
way to any start.
"""

from dataclasses import dataclass

from services.scheduler.policy.planning.offers import ready_s
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.scaling.keep_alive import IDLE_S_PER_LATE_S
from services.scheduler.policy.scaling.request_window import RequestWindow

# A second by which the first token is late is worth ten minutes of a host cache's memory.
HELD_S_PER_LATE_S = 10.0 * IDLE_S_PER_LATE_S


@dataclass(frozen=True)
class Benefit:
    """Seconds. `late_s`: by how much the first token would come after its target without it."""

    saved_s: float
    late_s: float

    @classmethod
    def of(cls, plan: Plan, ttft_s: float, target_s: float) -> "Benefit":
        """`ttft_s`: as predicted for the plan, of a request that comes now."""
        cached_s = max(ready_s(0.0, stage.launch_s, stage.tail_s) for stage in plan.stages)
        return cls(max(0.0, plan.start_s - cached_s), max(0.0, ttft_s - target_s))

    @property
    def counting_s(self) -> float:
        return min(self.saved_s, self.late_s)

    def is_worth(self, window: RequestWindow, fetch_s: float) -> bool:
        held_s = fetch_s + window.until_s - window.from_s
        return window.share * self.counting_s * HELD_S_PER_LATE_S > held_s
