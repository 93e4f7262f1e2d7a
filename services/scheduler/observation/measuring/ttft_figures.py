"""How long a cold start's first token took, beside its prediction, as measurements. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.scheduler.policy.prediction.quantities import MeasurementKey, Quantity

# Shorter predictions are all noise: a scheduler's round and a heartbeat are as long.
MIN_PREDICTED_S = 0.05
# What lies beyond is no error of a formula: a clock is wrong, or somebody else was waited for.
LEAST_RATIO, MOST_RATIO = 0.2, 5.0


@dataclass(frozen=True)
class ColdTtft:
    """Both without what had been waited before the plan. `corrected_by`: the ratio that the
    prediction had been multiplied by."""

    model_id: str
    predicted_s: float
    measured_s: float
    corrected_by: float = 1.0


def ttft_figures(start: ColdTtft) -> dict[MeasurementKey, float]:
    """Of its model and of the cluster."""
    return dict(_ratios(start))


def _ratios(start: ColdTtft) -> Iterator[tuple[MeasurementKey, float]]:
    by_formula_s = start.predicted_s / max(start.corrected_by, LEAST_RATIO)
    if by_formula_s < MIN_PREDICTED_S:
        return
    ratio = max(LEAST_RATIO, min(MOST_RATIO, start.measured_s / by_formula_s))
    for model_id in (start.model_id, ""):
        yield MeasurementKey(Quantity.TTFT_RATIO, model_id=model_id), ratio
