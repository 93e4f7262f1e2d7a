"""What `make bench-cold` measures and what it makes of it, without a stack."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.coldpath.duration_estimates import DurationEstimates
from benchmarks.coldpath.growth import growth
from benchmarks.coldpath.samples import PathPart, Sample, Samples
from benchmarks.coldpath.summary import summary
from benchmarks.coldpath.variants import (
    FAST_NIC,
    GROWTH,
    GROWTH_BY_SIZE,
    GROWTH_BY_STAGES,
    MAIN,
    VLLM,
    by_stack,
)

NAMES = {variant.name: variant for variant in (*MAIN, *GROWTH)}
FIGURES = {
    *("bound_s4_s", "ttft_sequential_s", "ttft_s1_s", "ttft_s2_s", "ttft_s4_s"),
    *("ttft_s4_standby_s", "ttft_warm_cache_s", "ttft_warm_cache_standby_s"),
    *("ttft_sequential_100mbit_s", "ttft_s4_100mbit_s", "ttft_vllm_s"),
    *("fetch_goodput_ratio_400mbit", "fetch_goodput_ratio_4gbit", "fetch_cpu_s_per_gb"),
}


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return Samples(tmp_path / "samples.jsonl")


def test_every_kind_of_start_has_a_stack_of_its_own_and_growth_has_two() -> None:
    assert by_stack(MAIN) == [[variant] for variant in MAIN]
    assert by_stack(GROWTH) == [list(GROWTH_BY_SIZE), list(GROWTH_BY_STAGES)]


def test_no_start_finds_weights_that_an_earlier_one_on_its_stack_has_fetched() -> None:
    for stack in by_stack(GROWTH):
        assert len({variant.model for variant in stack}) == len(stack)


def test_the_summary_names_every_figure_also_of_what_was_not_measured(
    samples: Samples, tmp_path: Path
) -> None:
    figures = summary(samples, tmp_path / "fetch.json")

    assert figures.keys() >= FIGURES
    assert set(figures.values()) == {None}


def test_the_bound_is_the_largest_stage_on_its_link_and_the_median_prefill(
    samples: Samples, tmp_path: Path
) -> None:
    samples.add(
        Sample("s4", 3.0, again_ttft_s=again_s, largest_stage_bytes=2 * FAST_NIC)
        for again_s in (0.1, 0.9, 0.2)
    )

    assert summary(samples, tmp_path / "fetch.json")["bound_s4_s"] == pytest.approx(2.2)


def test_what_the_parts_of_a_sequential_start_explain_is_a_figure(
    samples: Samples, tmp_path: Path
) -> None:
    parts = (PathPart("fetch/w", "fetch", "network", 5.0), PathPart("w", "import", "runtime", 4.0))
    samples.add([Sample("sequential", 10.0, path=parts)])

    assert summary(samples, tmp_path / "fetch.json")["sequential_explained"] == 0.9


def test_growth_has_slope_constant_and_r2_of_both_series(samples: Samples) -> None:
    for variant in GROWTH:
        size = 2_700_000_000 // (1 + len(variant.model))
        even_s = size / variant.num_stages / FAST_NIC
        path = (PathPart("fetch/w", "fetch", "network", 1.25 * even_s + 0.5),)
        largest = size // variant.num_stages + 1000
        found = Sample(variant.name, 9.0, path=path, fetch_s=even_s)
        samples.add([replace(found, weight_bytes=size, largest_stage_bytes=largest)])

    lines = growth(samples)

    for series in ("model_size", "stages"):
        line = lines[series]["over_even_stages"]["ttft_s"]  # type: ignore[index]
        assert (line["slope"], line["constant"]) == (pytest.approx(1.25), pytest.approx(0.5))
        assert line["r2"] == pytest.approx(1.0)


def test_samples_of_other_code_do_not_count(samples: Samples, tmp_path: Path) -> None:
    samples.add([Sample("s4", 1.0), Sample("s4", 2.0, code="another")])

    assert [s.ttft_s for s in Samples(tmp_path / "samples.jsonl").of("s4")] == [1.0]


def test_a_turn_is_expected_to_take_as_long_as_it_took() -> None:
    now_s = iter([0.0, 100.0, 120.0, 200.0, 240.0])
    estimates = DurationEstimates(list(NAMES.values()), lambda: next(now_s))
    slower = estimates.expected_s(["sequential_100mbit"])
    assert slower > estimates.expected_s(["s4"]) > 0 and estimates.expected_s([VLLM]) > 0

    for _ in range(2):
        estimates.begin()
        estimates.end(["s4"])

    assert estimates.expected_s(["s4"]) == 30.0
