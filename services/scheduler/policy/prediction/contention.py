"""Whether a start does better to wait for devices that others share. Pure."""

from services.scheduler.policy.prediction.objective import Objective
from services.scheduler.policy.prediction.predictor import Prediction

# Of its time to the first token it keeps back what a prediction is off by.
RESERVE_S = 0.5
RESERVE_SHARE = 0.1


def waits_for_others(prediction: Prediction, objective: Objective, longest_s: float) -> bool:
    """It would be too slow per token, only because others compute on its devices; and a first token
    is in time also if it starts later. `longest_s`: nobody waits longer for that."""
    if prediction.tpot_s <= objective.tpot_s:
        return False
    lost_s = objective.speed.step_s * (prediction.slowdown - 1.0)
    if prediction.tpot_s - lost_s > objective.tpot_s:
        return False  # alone, too
    starting_s = prediction.ttft_s - prediction.waited_s
    reserve_s = RESERVE_S + RESERVE_SHARE * starting_s
    slack_s = objective.ttft_s - prediction.ttft_s - reserve_s
    return slack_s > 0 and prediction.waited_s < longest_s
