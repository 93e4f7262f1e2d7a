"""What predictions are told of what was measured, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.decode_batches import DECODE_BATCHES, decode_batch
from services.scheduler.policy.nodes.changed_keys import changed_keys
from services.scheduler.policy.prediction.accuracy import error_of, ratio_of
from services.scheduler.policy.prediction.figures import Figures
from services.scheduler.policy.prediction.quantities import (
    PRIORS,
    SCOPES,
    STEPS,
    MeasurementKey,
    Quantity,
    Scope,
)

GB = 10**9
TAIL = MeasurementKey(Quantity.TAIL_S, node_id="node-1")
NIC = MeasurementKey(Quantity.NIC_BYTES_PER_S, node_id="node-1")
PREFILL = MeasurementKey(Quantity.PREFILL_S_PER_TOKEN, model_id="model-1")
STEP = MeasurementKey(STEPS[1], model_id="model-1")
STEP_PER_GB = MeasurementKey(Quantity.STEP_S_PER_GB)


def test_every_quantity_has_a_scope_and_those_that_nothing_else_says_have_a_prior() -> None:
    derived = {Quantity.NIC_BYTES_PER_S, Quantity.PREFILL_S_PER_TOKEN, *STEPS.values()}

    assert SCOPES.keys() == set(Quantity)
    assert PRIORS.keys() == set(Quantity) - derived
    assert STEPS.keys() == set(DECODE_BATCHES)


@pytest.mark.parametrize(
    ("quantity", "ids"),
    [
        (Quantity.TAIL_S, {}),
        (Quantity.TAIL_S, {"model_id": "model-1"}),
        (Quantity.HOP_S, {"node_id": "node-1"}),
        (Quantity.TTFT_RATIO, {"node_id": "node-1"}),
        (Quantity.TTFT_RATIO, {"node_id": "node-1", "model_id": "model-1"}),
    ],
)
def test_a_quantity_is_not_measured_of_whom_it_says_nothing(
    quantity: Quantity, ids: dict[str, str]
) -> None:
    with pytest.raises(AssertionError):
        MeasurementKey(quantity, **ids)


def test_a_node_that_was_never_measured_is_taken_for_the_priors() -> None:
    node = Figures().of_node("node-1")

    assert (node.standby_launch_s, node.build_s, node.tail_s) == (0.5, 0.25, 0.1)
    assert node.nic_bytes_per_s(assumed=125e6) == 125e6


def test_what_a_ttft_depends_on_is_the_upper_quantile_and_rates_are_medians() -> None:
    # Weights, newest first: 1 of 0.3, 0.85 of 0.1, 0.7225 of the prior; 2.5725 in all.
    figures = Figures().adding({TAIL: (0.1, 0.3), NIC: (90e6, 110e6)})
    node = figures.of_node("node-1")

    assert node.tail_s == 0.3  # 0.1 and the prior 0.1 have 1.5725 of the 1.8 that 0.7 are
    assert node.nic_bytes_per_s(assumed=125e6) == 110e6  # 0.85 + 1 reach 1.286; 0.85 do not
    assert figures.of_node("node-2").tail_s == 0.1, "it is another one's"


def test_a_model_that_never_ran_is_taken_for_what_its_size_would_take() -> None:
    figures = Figures().adding({STEP_PER_GB: (0.09,)})  # by now a cluster of CPUs
    model = figures.of_model("model-1", weight_bytes=2 * GB)

    assert model.step_s() == pytest.approx(0.18)
    assert model.prefill_s_per_token == pytest.approx(2 * 1.5e-5)  # the prior


def test_a_step_of_more_sequences_grows_by_a_guess_until_it_is_measured() -> None:
    figures = Figures().knowing(["model-1"]).adding({STEP: (0.02,)})
    model = figures.of_model("model-1", weight_bytes=GB)

    assert model.step_s(1) == 0.02
    assert model.step_s(3) == pytest.approx(0.02 * 1.09)  # as of 4
    four = MeasurementKey(STEPS[4], model_id="model-1")
    assert figures.adding({four: (0.021,)}).of_model("model-1", GB).step_s(3) == 0.021


def test_a_models_ratio_is_the_clusters_until_it_has_its_own() -> None:
    of_cluster, of_model = (MeasurementKey(Quantity.TTFT_RATIO, "", x) for x in ("", "model-1"))
    figures = Figures().knowing(["model-1"]).adding({of_cluster: (1.5,)})

    assert figures.of_model("model-1", GB).ttft_ratio == 1.5
    assert figures.adding({of_model: (0.9,)}).of_model("model-1", GB).ttft_ratio == 0.9
    assert figures.of_model("model-2", GB).ttft_ratio == 1.5


def test_of_a_model_that_was_not_read_nothing_is_kept() -> None:
    """Its history would begin in the middle."""
    figures = Figures().adding({PREFILL: (1.0,)})

    assert "model-1" not in figures.models
    known = figures.knowing(["model-1"]).adding({PREFILL: (1.0,)})
    assert known.of_model("model-1", GB).prefill_s_per_token == 1.0
    assert known.knowing(["model-1"]) == known, "what is known stays"
    assert "model-1" not in known.of_models(["model-2"]).models


def test_only_the_nodes_with_something_new_are_other_objects() -> None:
    other = MeasurementKey(Quantity.BUILD_S, node_id="node-2")
    before = Figures().adding({TAIL: (0.1,), other: (0.2,)})
    after = before.adding({TAIL: (0.2,), PREFILL: (1.0,), STEP_PER_GB: (1.0,)})

    assert changed_keys(before.nodes, after.nodes) == {"node-1"}
    assert set(after.without_nodes(["node-1"]).nodes) == {"node-2"}
    assert after.without_nodes(["node-3"]) is after


def test_a_ratio_takes_the_correction_of_the_prediction_back() -> None:
    # The formula said 2 s, and it was told as 3 s, for starts had taken 1.5 times as long.
    assert ratio_of(predicted_s=3.0, measured_s=3.0, corrected_by=1.5) == 1.5
    assert ratio_of(predicted_s=2.0, measured_s=3.0) == 1.5
    assert error_of(predicted_s=2.0, measured_s=3.0) == 0.5
    assert error_of(predicted_s=4.0, measured_s=3.0) == 0.25
    assert ratio_of(predicted_s=0.0, measured_s=1.0) == 1000.0  # a millisecond at the least


@pytest.mark.parametrize(
    ("num_sequences", "expected"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (16, 16), (500, 16)]
)
def test_a_step_counts_with_the_next_larger_batch(num_sequences: int, expected: int) -> None:
    assert decode_batch(num_sequences) == expected


@given(st.lists(st.tuples(st.sampled_from(sorted(Quantity)), st.floats(0.001, 10)), max_size=30))
def test_values_added_one_by_one_are_those_added_together(
    values: list[tuple[Quantity, float]],
) -> None:
    one_by_one, together = Figures().knowing(["id"]), Figures().knowing(["id"])
    gathered: dict[MeasurementKey, list[float]] = {}
    for quantity, value in values:
        for scope in SCOPES[quantity]:
            node_id = "id" if scope is Scope.NODE else ""
            key = MeasurementKey(quantity, node_id, "id" if scope is Scope.MODEL else "")
            one_by_one = one_by_one.adding({key: (value,)})
            gathered.setdefault(key, []).append(value)

    assert one_by_one == together.adding(gathered)
