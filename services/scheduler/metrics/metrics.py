"""What this scheduler counts while it leads; nothing as a standby."""

from dataclasses import dataclass, field

from libs.common.observability.instruments import Counter, Histogram
from libs.common.startmode import StartMode
from libs.common.states import PrefetchState
from services.scheduler.policy.prediction.accuracy import error_of

_ERRORS = (0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 5)  # of the prediction


def _ttft_errors() -> Histogram:
    return Histogram(
        "hydra_scheduler_ttft_error_ratio",
        "By what part of itself the predicted TTFT of a cold start was wrong",
        ("mode",),
        _ERRORS,
    )


def _prefetches() -> Counter:
    return Counter(
        "hydra_scheduler_prefetches_total",
        "Fetches of weights into host caches ahead of expected requests, by how they ended",
        ("outcome",),
    )


@dataclass
class SchedulerMetrics:
    ttft_errors: Histogram = field(default_factory=_ttft_errors)
    prefetches: Counter = field(default_factory=_prefetches)

    def count_ttft(self, mode: StartMode, predicted_s: float, measured_s: float) -> None:
        """Of a cold start: as it was told to those who waited, and as it was."""
        self.ttft_errors.observe((mode.value,), error_of(predicted_s, measured_s))

    def count_prefetch(self, state: PrefetchState) -> None:
        """In which it has ended."""
        self.prefetches.add((state.value.lower(),))

    def render(self) -> str:
        """As Prometheus reads it."""
        lines = (*self.ttft_errors.lines(), *self.prefetches.lines())
        return "".join(f"{line}\n" for line in lines)
