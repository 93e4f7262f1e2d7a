"""When requests come: moments in [0, duration), ascending. Pure but for the random generator.

`Gamma` is a renewal process: gaps are independent and Gamma-distributed with a coefficient of
variation c (shape 1/c^2). c = 1 is a Poisson process; with more, requests come in clumps.
"""

import numpy as np

from services.scheduler.simulation.scenario.traffic import Diurnal
from services.scheduler.simulation.workload.popularity import Floats, Ints


def gamma_gaps(rng: np.random.Generator, mean_s: float, cv: float, count: int) -> Floats:
    return rng.gamma(1 / cv**2, mean_s * cv**2, count)


def given_count(rng: np.random.Generator, count: int, cv: float, duration_s: float) -> Floats:
    """As many moments of a Gamma process as are given: so many gaps, stretched to fill the time as
    if it were a circle that begins anywhere. So no moment is likelier than another one."""
    total = 0.0
    while total <= 0.0:  # tiny gaps are rounded to nothing, all of them hardly ever
        gaps = gamma_gaps(rng, 1.0, cv, count)
        total = float(gaps.sum())
    turned = (np.cumsum(gaps) / total + rng.random()) % 1.0
    return np.minimum(np.sort(turned) * duration_s, np.nextafter(duration_s, 0))


def counts_by_model(rng: np.random.Generator, count: int, shares: Floats) -> Ints:
    """How many of the requests each model has."""
    found: Ints = rng.multinomial(count, shares)
    return found


def with_diurnal_rate(moments: Floats, diurnal: Diurnal, duration_s: float) -> Floats:
    """The same arrivals on a clock that runs with the rate: where there are more requests it runs
    faster. Their order and number stay; a Poisson process stays one."""
    grid = np.linspace(0.0, duration_s, 10_001)
    omega = 2 * np.pi / diurnal.period_s
    integral = grid + diurnal.amplitude / omega * (
        np.sin(omega * (grid - diurnal.peak_at_s)) + np.sin(omega * diurnal.peak_at_s)
    )
    found: Floats = np.interp(moments * (integral[-1] / duration_s), integral, grid)
    return found


def mean_factor(diurnal: Diurnal, duration_s: float) -> float:
    """The mean rate of the simulated time, as a multiple of the whole period's."""
    omega = 2 * np.pi / diurnal.period_s
    ends = np.sin(omega * (duration_s - diurnal.peak_at_s)) + np.sin(omega * diurnal.peak_at_s)
    return float(1 + diurnal.amplitude * ends / (omega * duration_s))
