import numpy as np
import pytest

from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.models import Lengths
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.scenario.traffic import Diurnal
from services.scheduler.simulation.workload import arrivals, lengths
from services.scheduler.simulation.workload.popularity import expected_distinct, zipf
from services.scheduler.simulation.workload.workload import draw_workload


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 4.0])
def test_gaps_have_the_mean_and_the_variation_that_were_asked_for(cv: float) -> None:
    """Of 200,000 gaps the mean's standard error is cv / 447, so 5 of them are 0.011 cv. That of
    the CV is larger where it is large: 5 % are allowed."""
    moments = arrivals.given_count(np.random.default_rng(1), 200_000, cv, 200_000.0)
    gaps = np.diff(moments)
    assert gaps.mean() == pytest.approx(1.0, abs=0.011 * cv)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_no_moment_is_likelier_than_another_one() -> None:
    """The mean of single arrivals in an hour is its half; 5 standard errors of 4,000 uniform values
    are 5 x 3600 / sqrt(12) / sqrt(4000) = 82 s."""
    rng = np.random.default_rng(2)
    singles = [arrivals.given_count(rng, 3, 8.0, 3600.0)[0:1] for _ in range(4_000)]
    firsts = [float(rng.choice(arrivals.given_count(rng, 3, 8.0, 3600.0))) for _ in singles]
    assert np.mean(firsts) == pytest.approx(1800.0, abs=82.0)


def test_moments_are_ascending_and_within_the_time() -> None:
    moments = arrivals.given_count(np.random.default_rng(3), 5_000, 8.0, 60.0)
    assert (np.diff(moments) >= 0).all()
    assert moments[0] >= 0
    assert moments[-1] < 60.0


def test_the_diurnal_rate_moves_arrivals_to_the_peak() -> None:
    """1 + cos over a whole period: the quarter on each side of the peak has 1/2 + 1/pi = 81.8 % of
    all. Of 50,000 that is 5 standard errors of 0.17 %."""
    day = Diurnal(amplitude=1.0, period_s=100.0, peak_at_s=50.0)
    uniform = arrivals.given_count(np.random.default_rng(4), 50_000, 1.0, 100.0)
    moved = arrivals.with_diurnal_rate(uniform, day, 100.0)
    near = ((moved > 25.0) & (moved < 75.0)).mean()
    assert near == pytest.approx(0.5 + 1 / np.pi, abs=0.009)
    assert arrivals.mean_factor(day, 100.0) == pytest.approx(1.0)
    # From -1/4 to 1/4 of the period around the peak: 1 + 2 / pi.
    assert arrivals.mean_factor(Diurnal(1.0, 100.0, 25.0), 50.0) == pytest.approx(1 + 2 / np.pi)


def test_zipf_shares_fall_with_the_rank() -> None:
    """1, 1/2, 1/3 of 11/6."""
    assert zipf(3, 1.0) == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_the_expected_number_of_models_that_are_asked_for() -> None:
    """Two models of one half each, three requests: 2 x (1 - 1/8)."""
    assert expected_distinct(zipf(2, 0.0), 3) == pytest.approx(1.75)
    assert expected_distinct(zipf(1, 1.0), 3) == 1.0


def test_of_the_published_scenario_101_of_384_models_are_asked_for_in_the_hour() -> None:
    loaded = scenarios.load("nsdi26-e2e", [Override.of("rate=0.6")])
    assert sum(group.count for group in loaded.models) == 384
    shares = zipf(384, loaded.traffic.zipf_exponent)
    assert expected_distinct(shares, 2_160) == pytest.approx(101, abs=0.5)
    drawn = [draw_workload(loaded, seed).num_distinct_models for seed in range(5)]
    assert all(abs(count - 101) <= 25 for count in drawn)
    assert np.mean(drawn) == pytest.approx(101, abs=10)


@pytest.mark.parametrize("process", ["poisson", "gamma_per_model", "gamma_of_all"])
def test_a_workload_has_exactly_the_requests_of_its_rate(process: str) -> None:
    overrides = [Override("process", process), Override.of("num_generated_per_kept=3")]
    workload = draw_workload(scenarios.load("nsdi26-e2e", overrides), 7)
    assert len(workload) == 2_160
    assert (np.diff(workload.arrived_at_s) >= 0).all()
    assert workload.prompt_tokens.min() >= 1
    assert workload.output_tokens.min() >= 1


def test_lengths_have_the_median_and_never_more_than_the_cap() -> None:
    """The median's standard error of 40,000 is 1.25 sigma x median / 200 = 0.6; 5 of them."""
    drawn = lengths.draw(np.random.default_rng(5), Lengths(100, 1.0, 500), 40_000)
    assert np.median(drawn) == pytest.approx(100, abs=3.2)
    assert drawn.max() == 500
    assert set(lengths.draw(np.random.default_rng(5), Lengths(100, 0.0, 500), 9)) == {100}
