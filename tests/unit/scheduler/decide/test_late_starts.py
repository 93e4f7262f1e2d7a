"""What a start tells of how long its model is worth keeping."""

import pytest

from services.scheduler.policy import decisions as d
from tests.unit.scheduler.decide.test_unasked import with_models
from tests.unit.scheduler.snapshots import a_model


@pytest.mark.parametrize("target_s", [0.0, 0.5, 1000.0])
def test_a_start_tells_by_how_much_a_request_of_then_would_be_late(target_s: float) -> None:
    played = with_models(a_model("model-1", slo_ttft_s=target_s))
    played.ask("model-1")

    (begun,) = [x for x in played.play(3.0) if isinstance(x, d.StartEndpoint)]

    predicted = begun.prediction
    assert predicted is not None and predicted.ready_s > 0
    first_token_s = predicted.ready_s + predicted.prefill_s + predicted.hops_s
    activity = played.snapshot.activities["model-1"]
    assert activity.late_s == pytest.approx(max(0.0, first_token_s - target_s))
