"""What the runs of all seeds come to, by policy. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.trace.samples import Sample
from services.scheduler.simulation.results.intervals import Interval, interval

FIGURES: Mapping[str, Callable[[Sample], float]] = {
    "attainment": lambda sample: sample.ttft_attainment,
    "tpot_attainment": lambda sample: sample.tpot_attainment,
    "both_attainment": lambda sample: sample.attainment,
    "cost": lambda sample: sample.cost_gb_s,
    "cold_share": lambda sample: sample.num_cold / max(1, sample.num_requests),
    "ttft_p90_s": lambda sample: _p90(sample),
}


def by_policy(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """In the order in which they come."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.policy, []).append(sample)
    return found


def over_seeds(samples: Sequence[Sample]) -> dict[str, dict[str, Interval]]:
    """Of each policy each figure, with its interval."""
    return {
        policy: {name: interval([value(s) for s in own]) for name, value in FIGURES.items()}
        for policy, own in by_policy(samples).items()
    }


def summary_of(samples: Sequence[Sample]) -> dict[str, float]:
    """Means; attainment is that of the target for the first token, cost is GB s per request."""
    return {
        f"{name}_{policy}": round(value.mean, 4)
        for policy, figures in over_seeds(samples).items()
        for name, value in figures.items()
    }


def intervals_of(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """95 % intervals over seeds."""
    return {
        policy: {name: value.as_json() for name, value in figures.items()}
        for policy, figures in over_seeds(samples).items()
    }


def _p90(sample: Sample) -> float:
    """Of those that were served."""
    times = sorted(r["ttft_s"] for r in sample.requests if r["ttft_s"] is not None)
    return float(times[min(len(times) - 1, int(0.9 * len(times)))]) if times else 0.0
