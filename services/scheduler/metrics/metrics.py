"""What this scheduler counts while it leads; nothing as a standby."""

from dataclasses import dataclass, field

from libs.common.observability.instruments import Counter, Histogram
from libs.common.startmode import StartMode
from libs.common.states import ConsolidationState, PrefetchState
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


def _consolidations() -> Counter:
    return Counter(
        "hydra_scheduler_consolidations_total",
        "Pipelines on their way to one worker, by how that ended",
        ("outcome",),
    )


def _consolidated_bytes() -> Counter:
    return Counter(
        "hydra_scheduler_consolidated_bytes_total",
        "Of pipelines that became one worker: weights that it had to load, and what the others "
        "had reserved on devices",
        ("kind",),
    )


def _standalone_seconds() -> Histogram:
    return Histogram(
        "hydra_scheduler_standalone_seconds",
        "From when a pipeline began to serve until it was one worker",
        ("mode",),
    )


@dataclass
class SchedulerMetrics:
    ttft_errors: Histogram = field(default_factory=_ttft_errors)
    prefetches: Counter = field(default_factory=_prefetches)
    consolidations: Counter = field(default_factory=_consolidations)
    consolidated_bytes: Counter = field(default_factory=_consolidated_bytes)
    standalone_seconds: Histogram = field(default_factory=_standalone_seconds)

    def count_ttft(self, mode: StartMode, predicted_s: float, measured_s: float) -> None:
        """Of a cold start: as it was told to those who waited, and as it was."""
        self.ttft_errors.observe((mode.value,), error_of(predicted_s, measured_s))

    def count_prefetch(self, state: PrefetchState) -> None:
        """In which it has ended."""
        self.prefetches.add((state.value.lower(),))

    def count_consolidation(self, state: ConsolidationState) -> None:
        """In which it has ended."""
        self.consolidations.add((state.value.lower(),))

    def count_standalone(
        self, mode: StartMode, load_bytes: int, freed_bytes: int, after_s: float | None
    ) -> None:
        """`after_s`: since the endpoint began to serve; None: nobody remembers."""
        self.consolidated_bytes.add(("loaded",), load_bytes)
        self.consolidated_bytes.add(("freed",), freed_bytes)
        if after_s is not None:
            self.standalone_seconds.observe((mode.value,), after_s)

    def render(self) -> str:
        """As Prometheus reads it."""
        kinds: tuple[Counter | Histogram, ...] = (
            *(self.ttft_errors, self.prefetches),
            *(self.consolidations, self.consolidated_bytes, self.standalone_seconds),
        )
        lines = (line for kind in kinds for line in kind.lines())
        return "".join(f"{line}\n" for line in lines)
