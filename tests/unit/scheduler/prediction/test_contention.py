"""Who waits for devices that others share, worked out by hand."""

from dataclasses import replace

import pytest

from services.scheduler.policy.prediction.contention import waits_for_others
from services.scheduler.policy.prediction.objective import Objective
from services.scheduler.policy.prediction.predictor import ModelSpeed, Prediction

# 40 ms a step alone: two stages that share their devices equally take 2 x 40 + 2 = 82 ms, and 42 ms
# without the others. A first token takes 2 s, of which 0.5 + 0.2 s are kept back.
SPEED = ModelSpeed(prefill_s=0.5, step_s=0.04, hop_s=0.002)
SHARED = Prediction(
    waited_s=0.0,
    ready_s=1.4,
    prefill_s=0.5,
    hops_s=0.1,
    tpot_s=0.082,
    cost_byte_s=0.0,
    slowdown=2.0,
)
TARGETS = Objective(ttft_s=5.0, tpot_s=0.08, speed=SPEED)


@pytest.mark.parametrize(
    ("prediction", "objective", "is_expected", "why"),
    [
        (SHARED, TARGETS, True, "alone it would take 42 of 80 ms"),
        (SHARED, replace(TARGETS, tpot_s=0.082), False, "it meets its target"),
        (SHARED, replace(TARGETS, tpot_s=0.041), False, "alone it would take 42 of 41 ms"),
        (SHARED, replace(TARGETS, ttft_s=2.69), False, "2.0 s and 0.7 s kept back: more than 2.69"),
        (SHARED, replace(TARGETS, ttft_s=2.71), True, "10 ms are left"),
        (replace(SHARED, waited_s=2.31), TARGETS, False, "2.31 + 2.0 + 0.7 are more than 5 s"),
        (replace(SHARED, waited_s=2.29), TARGETS, True, "10 ms are left of 5 s"),
        (
            replace(SHARED, waited_s=4.0),
            replace(TARGETS, ttft_s=99.0),
            False,
            "4 s are the longest",
        ),
    ],
)
def test_who_waits(
    prediction: Prediction, objective: Objective, is_expected: bool, why: str
) -> None:
    assert waits_for_others(prediction, objective, longest_s=4.0) is is_expected, why
