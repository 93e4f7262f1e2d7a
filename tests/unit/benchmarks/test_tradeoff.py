"""What `make bench-tradeoff` measures and what it makes of it, without a stack."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.tradeoff.cells import CELLS, NUM_NODES, PRACTICE, Cell, order_of
from benchmarks.tradeoff.samples import Figures, Sample, Samples
from benchmarks.tradeoff.summary import bound_s, cell_table, spreads, summary_of

GB = 10**9


def sample(cell: Cell, ttft_s: float, predicted_s: float) -> Sample:
    return Sample(
        cell.num_stages,
        cell.num_full,
        predicted=Figures(predicted_s, tpot_s=0.030, cost_byte_s=40 * GB),
        measured=Figures(ttft_s, tpot_s=0.040, cost_byte_s=50 * GB),
        weight_bytes=250_000_000,
        fetched_bytes=250_000_000,
        num_tokens=128,
        recorded_ttft_s=ttft_s,
        recorded_tpot_s=0.04,
        correction=1.0,
        byte_s={"starting": 20.0 * GB, "busy": 10.0 * GB, "idle": 20.0 * GB},
    )


FOUR, ONE = Cell(4, 2), Cell(1, 1)
# Off by 1/10, 0 and 11/11.
THREE_RUNS = [sample(FOUR, 10.0, 9.0), sample(FOUR, 12.0, 12.0), sample(FOUR, 11.0, 22.0)]


def test_every_shape_is_there_once_and_one_worker_always_has_the_whole_model() -> None:
    assert len(set(CELLS)) == len(CELLS) == 13
    assert {c.num_full for c in CELLS if c.num_stages == 1} == {1}
    for num_stages in range(2, NUM_NODES + 1):
        own = [c.num_full for c in CELLS if c.num_stages == num_stages]
        assert own == list(range(num_stages + 1))
    assert set(PRACTICE) <= set(CELLS)


def test_a_shape_leaves_the_planner_no_choice() -> None:
    assert FOUR.settings == {
        "min_pipeline_size": 4,
        "max_pipeline_size": 4,
        "full_memory_workers": 2,
    }
    assert Cell(3, 0).settings["full_memory_workers"] is None, "the API knows no 0"
    assert Cell(3, 0).node["memory"] != FOUR.node["memory"], "the devices have no room for it"


def test_shapes_take_turns_and_each_run_begins_with_another_one() -> None:
    orders = [order_of(run, CELLS) for run in range(3)]

    assert all(sorted(order) == sorted(CELLS) for order in orders)
    assert len({order[0] for order in orders}) == 3
    assert order_of(5, []) == []
    assert order_of(5, [ONE]) == [ONE]


def test_medians_least_and_most_of_the_runs_and_the_median_error() -> None:
    found = spreads(THREE_RUNS)[FOUR]["ttft_s"]

    assert (found.measured, found.least, found.most, found.predicted) == (11.0, 10.0, 12.0, 12.0)
    assert found.error == pytest.approx(0.1)


def test_the_summary_names_each_figure_of_each_shape_measured_and_predicted() -> None:
    found = summary_of([*THREE_RUNS, sample(ONE, 20.0, 25.0)])

    assert found["ttft_s4_w2_s"] == 11.0
    assert found["ttft_s4_w2_predicted_s"] == 12.0
    assert found["ttft_s4_w2_error"] == pytest.approx(0.1)
    assert found["tpot_s1_w1_ms"] == pytest.approx(40.0)
    assert found["tpot_s1_w1_predicted_ms"] == pytest.approx(30.0)
    assert found["cost_s1_w1_gb_s"] == pytest.approx(50.0)
    assert found["cost_s1_w1_error"] == pytest.approx(0.2)
    # Of all starts: 0, 1/10, 1/4 and 1.
    assert found["ttft_error"] == pytest.approx(0.175)
    figures = Counter(key.partition("_")[0] for key in found)
    assert figures == {"ttft": 7, "tpot": 7, "cost": 7}
    assert summary_of([]) == {}


def test_cards_alone_take_the_bytes_by_the_stages_and_the_rate() -> None:
    """250 MB over four cards of 12.5 MB/s."""
    assert bound_s(250_000_000, 4) == 5.0
    rows = cell_table([*THREE_RUNS, sample(ONE, 21.0, 21.0)])

    assert [(row["num_stages"], row["num_full"], row["num_runs"]) for row in rows] == [
        (1, 1, 1),
        (4, 2, 3),
    ]
    assert [row["network_bound_s"] for row in rows] == [20.0, 5.0]
    assert json.loads(json.dumps(rows)) == rows


def test_samples_of_the_same_code_and_processor_are_kept_for_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / "tradeoff" / "samples.jsonl"
    for one in THREE_RUNS:
        Samples(path).add(one)
    Samples(path).add(replace(THREE_RUNS[0], code="another"))
    Samples(path).add(replace(THREE_RUNS[0], processor="another"))

    again = Samples(path)

    assert list(again.all) == again.of(FOUR) == THREE_RUNS
    assert again.of(ONE) == []
