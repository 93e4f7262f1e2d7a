"""What this scheduler counts while it leads; nothing as a standby."""

from dataclasses import dataclass, field

from libs.common.observability.instruments import Histogram
from libs.common.startmode import StartMode
from services.scheduler.policy.prediction.accuracy import error_of

_ERRORS = (0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 5)  # of the prediction


def _ttft_errors() -> Histogram:
    return Histogram(
        "hydra_scheduler_ttft_error_ratio",
        "By what part of itself the predicted TTFT of a cold start was wrong",
        ("mode",),
        _ERRORS,
    )


@dataclass
class SchedulerMetrics:
    ttft_errors: Histogram = field(default_factory=_ttft_errors)

    def count_ttft(self, mode: StartMode, predicted_s: float, measured_s: float) -> None:
        """Of a cold start: as it was told to those who waited, and as it was."""
        self.ttft_errors.observe((mode.value,), error_of(predicted_s, measured_s))

    def render(self) -> str:
        """As Prometheus reads it."""
        return "".join(f"{line}\n" for line in self.ttft_errors.lines())
