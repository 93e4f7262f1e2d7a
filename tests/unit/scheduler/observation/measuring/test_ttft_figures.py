"""What the first token of a cold start says of later predictions."""

from services.scheduler.observation.measuring.ttft_figures import ColdTtft, ttft_figures
from services.scheduler.policy.prediction.quantities import MeasurementKey, Quantity

OF_MODEL = MeasurementKey(Quantity.TTFT_RATIO, model_id="model-1")
OF_CLUSTER = MeasurementKey(Quantity.TTFT_RATIO)


def test_the_ratio_is_measured_of_the_model_and_of_the_cluster() -> None:
    found = ttft_figures(ColdTtft("model-1", predicted_s=4.0, measured_s=5.0))

    assert found == {OF_MODEL: 1.25, OF_CLUSTER: 1.25}


def test_a_prediction_that_was_corrected_and_right_keeps_its_correction() -> None:
    found = ttft_figures(ColdTtft("model-1", 5.0, 5.0, corrected_by=1.25))

    assert found == {OF_MODEL: 1.25, OF_CLUSTER: 1.25}


def test_a_prediction_of_next_to_nothing_says_nothing() -> None:
    assert ttft_figures(ColdTtft("model-1", predicted_s=0.04, measured_s=5.0)) == {}
