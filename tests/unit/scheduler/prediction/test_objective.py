"""What a start is planned for."""

import pytest

from services.scheduler.policy.cluster import Model
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import history_of
from tests.unit.scheduler.snapshots import SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary


def serving_s(model: Model, busy_s: float | None = None) -> float:
    """Of a model that is talked to in bursts, and rests for long between them."""
    made = SmallCluster()
    made.add_model(model, summary())
    talking = ModelActivity(history_of(([4.0] * 9 + [5000.0]) * 10), restart_s=5.0, busy_s=busy_s)
    return made.snapshot(activities={model.id: talking}).objective(model, summary()).serving_s


def test_an_endpoint_is_expected_to_serve_for_as_long_as_its_models_gaps_say() -> None:
    """Idle for 32 s it is no longer worth its memory (scaling/test_keep_alive.py)."""
    auto = a_model("model-1", is_keep_alive_auto=True, keep_alive_s=300.0)

    assert serving_s(auto) == serving_s(a_model("model-1", keep_alive_s=32.0))
    assert serving_s(auto) < serving_s(a_model("model-1", keep_alive_s=300.0))


def test_before_that_it_works_as_endpoints_of_the_model_did_or_for_a_usual_answer() -> None:
    fixed = a_model("model-1", keep_alive_s=32.0)
    assert serving_s(fixed, busy_s=20.0) == 52.0
    assert serving_s(fixed) > 32.0, "nobody has seen it work: some time for an answer"


@pytest.mark.parametrize(("num_waiting", "num_together"), [(0, 1), (1, 1), (3, 3), (9, 4)], ids=str)
def test_a_step_is_that_of_the_requests_that_will_decode_together(
    num_waiting: int, num_together: int
) -> None:
    """As many as wait, and no more than an endpoint has slots."""
    made, model = SmallCluster(), a_model("model-1", max_slots=4)
    made.add_model(model, summary())
    for number in range(num_waiting):
        made.add_request(a_request(f"request-{number}", "model-1"))
    snapshot = made.snapshot()

    figures = snapshot.measured.of_model("model-1", summary().weight_bytes)
    step_s = snapshot.objective(model, summary()).speed.step_s
    assert step_s == figures.step_s(num_together)
    assert (step_s > figures.step_s()) == (num_together > 1)
