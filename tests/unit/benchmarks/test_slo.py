import pytest

from benchmarks.slo import published
from benchmarks.slo.cells import MEASURED, PUBLISHED, VARIANTS, Cell, Sample, cells, ratios
from benchmarks.slo.summary import by_place, cell_table, far_off, goals, summary_of
from services.scheduler.simulation.results.intervals import interval


def sample(constants: str, policy: str, seed: int, attainment: float, **more: float) -> Sample:
    return {
        "constants": constants,
        "policy": policy,
        "cv": 8,
        "rate_per_s": 0.6,
        "seed": seed,
        "ttft_attainment": attainment,
        "tpot_attainment": more.get("tpot", 1.0),
        "attainment": attainment,
        "ratios": {"cost": more.get("cost", 1.0), "device": 1.0, "tpot": 1.0},
        "total_cost_ratio": 1.0,
        "cost": {"total_gb_s": 100.0, "starting_share": 0.1},
    }


def samples() -> list[Sample]:
    return [
        sample(MEASURED, "hydra", 1, 0.94, tpot=0.99, cost=0.7),
        sample(MEASURED, "hydra", 2, 0.98, tpot=0.97, cost=0.9),
        sample(MEASURED, "sequential", 1, 0.7),
        sample(MEASURED, "sequential", 2, 0.8),
        sample(PUBLISHED, "hydra", 1, 0.90),
        sample(PUBLISHED, "sequential", 1, 0.60),
    ]


def test_the_summary_has_means_over_seeds_under_the_agreed_names() -> None:
    found = summary_of(by_place(samples()))
    assert found["attainment_hydra_cv8_rate06"] == pytest.approx(0.96)
    assert found["published_attainment_sequential_cv8_rate06"] == pytest.approx(0.6)
    assert found["cost_ratio_hydra_cv8_rate06"] == pytest.approx(0.8)
    assert found["tpot_attainment_hydra_cv8_rate06"] == pytest.approx(0.98)
    assert found["mean_tpot_ratio_hydra_cv8_rate06"] == 1.0


def test_goals_say_whether_they_are_met() -> None:
    """Attainment 0.96 >= 0.95, cost 0.80 <= 0.80, TPOT 0.98 < 1."""
    assert [goal["is_met"] for goal in goals(summary_of(by_place(samples())))] == [
        True,
        True,
        False,
    ]


def test_cells_that_are_far_from_the_published_values_are_named() -> None:
    """Published: hydra 0.825, sequential 0.535. 7.5 points off is near, and 6.5 is."""
    table = cell_table(by_place(samples()))
    assert far_off(table) == []
    table = cell_table(by_place([sample(PUBLISHED, "sequential", 1, 0.70)]))
    assert far_off(table) == ["sequential at CV 8, 0.6/s: +16.5 points"]


def test_a_model_that_is_asked_once_counts_as_much_as_any_other() -> None:
    """Costs 50 of 100 and 900 of 1,000: the mean of the ratios is 0.7, of the sums 0.86. A model
    without a time per token counts for the cost alone."""
    base = {
        "rare": {"cost_gb_s": 100.0, "device_gb_s": 100.0, "tpot_mean_s": None},
        "hot": {"cost_gb_s": 1_000.0, "device_gb_s": 800.0, "tpot_mean_s": 0.04},
    }
    own = {
        "rare": {"cost_gb_s": 50.0, "device_gb_s": 60.0, "tpot_mean_s": 0.05},
        "hot": {"cost_gb_s": 900.0, "device_gb_s": 400.0, "tpot_mean_s": 0.05},
    }
    found = ratios(own, base)
    assert found == {
        "cost": pytest.approx(0.7),
        "device": pytest.approx(0.55),
        "tpot": pytest.approx(1.25),
    }


def test_published_values_are_those_of_the_cell() -> None:
    assert published.attainment("sequential", 8, 0.6) == 0.535
    assert published.attainment("cached", 2, 0.8) == 0.453
    assert published.attainment("single", 2, 0.8) is None
    low, high = 0.439, 0.535
    values = [v for own in published.ATTAINMENT["sequential"].values() for v in own]
    assert (min(values), max(values)) == (low, high)


def test_every_seed_has_all_cells_and_a_cell_sets_what_it_says() -> None:
    found = list(cells(2))
    assert len(found) == 2 * 2 * 9 == len(set(found))
    cached = next(v for v in VARIANTS if v.name == "cached")
    measured = Cell(MEASURED, 4, 0.7, 1).scenario(cached)
    assert (measured.traffic.rate_per_s, measured.keeps_units) == (0.7, True)
    assert not Cell(PUBLISHED, 4, 0.7, 1).scenario(cached).keeps_units


def test_an_interval_of_a_cell_is_over_its_seeds() -> None:
    (row,) = cell_table(by_place([s for s in samples() if s["ttft_attainment"] in (0.94, 0.98)]))
    assert row["ttft_attainment"] == interval([0.94, 0.98]).as_json()
