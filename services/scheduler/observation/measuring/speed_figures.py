"""What an entry tells of its steps, as figures of its model on a device of its own. Pure.

What it sees of a decode step is `step x phi + hop x (s - 1)`, as it is predicted: solved for the
step. phi is a sum over stages of model share / compute share, and 1 for any number of stages where
nobody else computes on their devices; so a pipeline's figure and a single worker's are comparable.
Of a prompt the hops stay in: they are longer with each token, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from libs.common.bus.messages import EngineSpeed
from services.scheduler.policy.prediction.quantities import STEPS, MeasurementKey, Quantity

# A model's figures say what one of another size would take, where it is not so small that steps
# are all overhead.
MIN_SCALED_BYTES = 64 * 10**6
LEAST_STEP_SHARE = 0.25  # of a step seen, whatever its hops are taken for


@dataclass(frozen=True)
class Circumstances:
    """Under which an endpoint's speed was seen."""

    model_id: str
    weight_bytes: int
    num_stages: int
    slowdown: float  # phi
    hop_s: float  # as measured until then


def speed_figures(speed: EngineSpeed, seen: Circumstances) -> dict[MeasurementKey, float]:
    return dict([*_prefill(speed, seen), *_steps(speed, seen)])


def _prefill(speed: EngineSpeed, seen: Circumstances) -> Iterator[tuple[MeasurementKey, float]]:
    if speed.prefill_us_per_token is None:
        return
    each_s = speed.prefill_us_per_token / 1e6 / seen.slowdown
    yield MeasurementKey(Quantity.PREFILL_S_PER_TOKEN, model_id=seen.model_id), each_s
    if seen.weight_bytes >= MIN_SCALED_BYTES:
        scaled_s = each_s / (seen.weight_bytes / 1e9)
        yield MeasurementKey(Quantity.PREFILL_S_PER_TOKEN_GB), scaled_s


def _steps(speed: EngineSpeed, seen: Circumstances) -> Iterator[tuple[MeasurementKey, float]]:
    for time in speed.decode:
        seen_s = time.mean_us / 1e6
        own_s = max(LEAST_STEP_SHARE * seen_s, seen_s - seen.hop_s * (seen.num_stages - 1))
        step_s = own_s / seen.slowdown
        yield MeasurementKey(STEPS[time.batch], model_id=seen.model_id), step_s
        if time.batch == 1 and seen.weight_bytes >= MIN_SCALED_BYTES:
            yield MeasurementKey(Quantity.STEP_S_PER_GB), step_s / (seen.weight_bytes / 1e9)
