"""How many endpoints a model has needed at most within a while: scaling down has hysteresis. Pure.

The greatest need within a sliding window, as in the stabilization window of Kubernetes' horizontal
pod autoscaler: endpoints go once a lower need has held for all of the window.
"""

from dataclasses import dataclass

MIN_WINDOW_S = 30.0  # also where keep-alive is shorter: to start again takes longer than to wait


@dataclass(frozen=True)
class Need:
    at_s: float  # when it was that high last
    num_endpoints: int


@dataclass(frozen=True)
class NeedHistory:
    """`needs` fall, the oldest first: what a newer and greater one outweighs is left out, so there
    are no more than endpoints were ever needed."""

    since_s: float
    needs: tuple[Need, ...] = ()

    def add(self, at_s: float, num_endpoints: int, window_s: float) -> "NeedHistory":
        """As of this moment. What was needed before the window is forgotten."""
        begins_s = at_s - window_s
        greater = (n for n in self.needs if n.num_endpoints > num_endpoints and n.at_s >= begins_s)
        return NeedHistory(self.since_s, (*greater, Need(at_s, num_endpoints)))

    def peak(self, now_s: float, window_s: float) -> int | None:
        """The most within the window; None while less than that is known."""
        if now_s - self.since_s < window_s:
            return None
        within = (n.num_endpoints for n in self.needs if n.at_s >= now_s - window_s)
        return max(within, default=0)
