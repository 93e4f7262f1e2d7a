"""Policies on real processes: what is kept of runs, and what they come to."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.replay.record import RequestRecord, RunRecord
from benchmarks.trace.samples import Sample, Samples, sample_of
from benchmarks.trace.summary import intervals_of, summary_of


def request(index: int, ttft_s: float | None, tpot_s: float | None = 0.05) -> RequestRecord:
    return RequestRecord(
        *(index, "tiny", float(index), ttft_s, tpot_s, 1.0, 0.1),
        is_cold=index == 0,
        num_stages=1,
        num_prompt_tokens=10,
        num_output_tokens=5,
        error="503" if ttft_s is None else None,
    )


def sample(policy: str = "hydra", seed: int = 1) -> Sample:
    """Four requests: in time, late, with slow tokens, not served. 8 GB s in all."""
    requests = (request(0, 0.5), request(1, 2.0), request(2, 0.5, 0.2), request(3, None))
    run = {"mode": policy, "seed": seed, "code": "c"}
    return sample_of(RunRecord(run, requests, (), device_byte_s=8e9))


def test_a_sample_counts_targets_of_all_requests_and_cost_per_request() -> None:
    found = sample()
    assert (found.num_requests, found.num_cold, found.num_unserved) == (4, 1, 1)
    assert found.ttft_attainment == 0.5
    assert found.tpot_attainment == 0.5
    assert found.attainment == 0.25
    assert found.cost_gb_s == 2.0


def test_the_summary_has_means_over_seeds_by_policy() -> None:
    """0.5 and 0.7: 0.6. Costs of 2 and 4: 3."""
    other = replace(sample(seed=2), ttft_attainment=0.7, cost_gb_s=4.0)
    found = summary_of([sample(), other, sample("single")])
    assert found["attainment_hydra"] == pytest.approx(0.6)
    assert found["cost_hydra"] == pytest.approx(3.0)
    assert found["attainment_single"] == 0.5
    assert found["cold_share_single"] == 0.25
    assert found["ttft_p90_s_single"] == 2.0


def test_intervals_are_over_seeds() -> None:
    """Two values 0.5 and 0.7: 0.6 +- 12.706 x 0.1 (Student, one degree of freedom)."""
    other = replace(sample(seed=2), ttft_attainment=0.7)
    found = intervals_of([sample(), other])["hydra"]["attainment"]
    assert found["mean"] == pytest.approx(0.6)
    assert found["high"] == pytest.approx(0.6 + 1.2706, rel=1e-3)


def test_kept_samples_count_where_they_are_of_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    Samples.read(path).add(sample())
    again = Samples.read(path)
    assert again.of({"mode": "hydra", "seed": 1, "code": "c"}) == sample()
    assert again.of({"mode": "hydra", "seed": 1, "code": "d"}) is None
