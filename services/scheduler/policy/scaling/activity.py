"""What is remembered of when a model was asked, by whatever endpoint it had. Pure.

A gap begins when the last endpoint of the model has nothing to do any more, and ends when one of
them works again or, if none is left, when a request waits. Warm requests never pass the scheduler:
what is known of them is what workers say of themselves, `num_running` and `idle_ms`, as endpoints
are marked busy and idle by it. So a beginning is known to a heartbeat, which is sent when work
begins or ends, and each second. Work that began and ended between two heartbeats counts as one
request, whose gap is too long by what it took, less than a second; requests that overlap have no
gap between them. Neither matters for times of seconds and more, which is what is decided by it.
"""

from dataclasses import dataclass, field, replace

from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.scaling.gap_history import GapHistory
from services.scheduler.policy.scaling.keep_alive import KeepAlivePlan, plan_keep_alive
from services.scheduler.policy.scaling.request_window import RequestWindow, likely_window

UNKNOWN_RESTART_S = 5.0  # of a model that was never started
NEWEST_WEIGHT = 0.3  # of the last time in which it worked, in the mean of all
# How long before its window a model is looked at for a prefetch: no fetch begins earlier.
MAX_LEAD_S = 900.0


@dataclass(frozen=True)
class ModelActivity:
    """`idle_since_s`: since when nobody has asked for it; None: it works, or was never asked.
    `restart_s` and `late_s`, by which its first token comes after the model's target, are as was
    predicted when it started last."""

    gaps: GapHistory = field(default_factory=GapHistory)
    idle_since_s: float | None = None
    restart_s: float | None = None
    late_s: float | None = None  # None: not known, so all of a start counts as late
    # For how long its endpoints work until none has anything to do; None: never seen. Since when
    # they do now; None: they do not, or this leader has not seen it begin.
    busy_s: float | None = None
    busy_since_s: float | None = None
    # An endpoint was started ahead in this gap: it is not done twice.
    was_started_ahead: bool = False

    def asked(self, at_s: float) -> "ModelActivity":
        """A request came then, or something was found at work."""
        if self.idle_since_s is None:
            return self
        gaps = self.gaps.add(max(0.0, at_s - self.idle_since_s))
        return replace(self, gaps=gaps, idle_since_s=None, was_started_ahead=False)

    def rested(self, since_s: float) -> "ModelActivity":
        """The last of its endpoints has nothing to do, since then."""
        if self.idle_since_s is not None and since_s <= self.idle_since_s:
            return self
        return replace(self.asked(since_s)._worked(since_s), idle_since_s=since_s)

    def working(self, at_s: float) -> "ModelActivity":
        """One of its endpoints can compute and has something to do."""
        return self if self.busy_since_s is not None else replace(self, busy_since_s=at_s)

    def _worked(self, until_s: float) -> "ModelActivity":
        if self.busy_since_s is None:
            return self
        busy_s = max(0.0, until_s - self.busy_since_s)
        if self.busy_s is not None:
            busy_s = NEWEST_WEIGHT * busy_s + (1.0 - NEWEST_WEIGHT) * self.busy_s
        return replace(self, busy_s=busy_s, busy_since_s=None)

    def served(self, at_s: float) -> "ModelActivity":
        """What was started for a request is ready, and has none: whoever waited may be answered
        before anybody sees it at work."""
        return replace(self, idle_since_s=at_s) if self.idle_since_s is None else self

    def started(self, restart_s: float, late_s: float | None) -> "ModelActivity":
        """The first of its endpoints: whatever worked before has ended, and nobody said when."""
        return replace(self, restart_s=restart_s, late_s=late_s, busy_since_s=None)

    def started_ahead(self) -> "ModelActivity":
        return replace(self, was_started_ahead=True)

    @cached_property
    def plan(self) -> KeepAlivePlan:
        """How long an endpoint is worth keeping, and when one is started ahead."""
        restart_s = self.restart_s or UNKNOWN_RESTART_S
        late_s = restart_s if self.late_s is None else self.late_s
        return plan_keep_alive(self.gaps, restart_s, late_s)

    @property
    def ahead_at_s(self) -> float | None:
        """When an endpoint is to be started although nobody asks; None: it is not, in this gap."""
        if self.idle_since_s is None or self.was_started_ahead or self.plan.ahead_from_s is None:
            return None
        start_s = self.plan.ahead_from_s - (self.restart_s or UNKNOWN_RESTART_S)
        return self.idle_since_s + max(self.plan.keep_s, start_s)

    @property
    def ahead_until_s(self) -> float | None:
        """Until when one that was started ahead is kept."""
        if self.idle_since_s is None or self.plan.ahead_until_s is None:
            return None
        return self.idle_since_s + self.plan.ahead_until_s

    @cached_property
    def window(self) -> RequestWindow | None:
        """When it is likely to be asked, once its endpoint has gone; None: nobody can say."""
        return likely_window(self.gaps, self.plan.keep_s)

    @property
    def prefetch_at_s(self) -> float | None:
        """From when on its weights may be fetched into host caches; None: not in this gap."""
        if self.idle_since_s is None or self.window is None:
            return None
        return self.idle_since_s + max(self.plan.keep_s, self.window.from_s - MAX_LEAD_S)

    @property
    def expected_at_s(self) -> float | None:
        """When its window begins."""
        if self.idle_since_s is None or self.window is None:
            return None
        return self.idle_since_s + self.window.from_s

    @property
    def prefetch_until_s(self) -> float | None:
        """When its window is over."""
        if self.idle_since_s is None or self.window is None:
            return None
        return self.idle_since_s + self.window.until_s
