"""How well a TTFT was predicted. Pure."""

LEAST_PREDICTION_S = 0.001  # nothing sooner can be meant


def ratio_of(predicted_s: float, measured_s: float, corrected_by: float = 1.0) -> float:
    """What was measured, by what the formula alone says; 1: exactly so, 2: it took twice as long.

    Of what had been waited before the plan neither has a part: nobody predicts that. A prediction
    that was told had been multiplied by an earlier ratio, `corrected_by`: without taking that back
    one correction would undo the one before it.
    """
    assert measured_s >= 0 and predicted_s >= 0 and corrected_by > 0
    return corrected_by * measured_s / max(predicted_s, LEAST_PREDICTION_S)


def error_of(predicted_s: float, measured_s: float) -> float:
    """By what part of itself a prediction was wrong, as it was told."""
    return abs(ratio_of(predicted_s, measured_s) - 1)
