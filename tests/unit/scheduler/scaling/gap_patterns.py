"""Gaps between the requests of a model, as they may be, and what a policy costs over them."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from services.scheduler.policy.scaling.gap_history import EDGES_S, GapHistory
from services.scheduler.policy.scaling.keep_alive import (
    KeepAlivePlan,
    plan_keep_alive,
    price_s,
)


def periodic(rng: random.Random) -> list[float]:
    """Every ten minutes, give or take 2 %."""
    return [600.0 * rng.gauss(1.0, 0.02) for _ in range(300)]


def bursty(rng: random.Random) -> list[float]:
    """Five to fifteen requests some 5 s apart, then a pause of some twenty minutes."""
    gaps: list[float] = []
    while len(gaps) < 1200:
        gaps += [rng.expovariate(1 / 5) for _ in range(rng.randint(5, 15))]
        gaps.append(rng.expovariate(1 / 1200))
    return gaps


def poisson(mean_s: float) -> Callable[[random.Random], list[float]]:
    return lambda rng: [rng.expovariate(1 / mean_s) for _ in range(600)]


def rare(rng: random.Random) -> list[float]:
    """Hours, now and then days."""
    return [3600.0 * rng.paretovariate(1.2) for _ in range(200)]


PATTERNS: dict[str, Callable[[random.Random], list[float]]] = {
    "periodic": periodic,
    "bursty": bursty,
    "often": poisson(100.0),
    "now and then": poisson(300.0),
    "seldom": poisson(1000.0),
    "rare": rare,
}


@dataclass(frozen=True)
class Outcome:
    num_cold: int
    held_s: float  # of an endpoint's memory: idle, and while it starts

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.num_cold + other.num_cold, self.held_s + other.held_s)

    def cost(self, restart_s: float) -> float:
        return self.num_cold * price_s(restart_s, restart_s) + self.held_s


def of_auto(gaps: Iterable[float], restart_s: float) -> Outcome:
    """It knows at each gap those before it."""
    history, sum_ = GapHistory(), Outcome(0, 0.0)
    for gap_s in gaps:
        sum_ += of_gap(gap_s, plan_keep_alive(history, restart_s, restart_s), restart_s)
        history = history.add(gap_s)
    return sum_


def of_fixed(gaps: Iterable[float], keep_s: float, restart_s: float) -> Outcome:
    return sum((of_gap(gap_s, KeepAlivePlan(keep_s), restart_s) for gap_s in gaps), Outcome(0, 0.0))


def of_gap(gap_s: float, plan: KeepAlivePlan, restart_s: float) -> Outcome:
    """The request that ends the gap finds an endpoint, or waits for one to start."""
    held_s = min(gap_s, plan.keep_s)
    if gap_s < plan.keep_s:
        return Outcome(0, held_s)
    if plan.ahead_from_s is not None and plan.ahead_until_s is not None:
        begun_s = max(plan.keep_s, plan.ahead_from_s - restart_s)
        held_s += max(0.0, min(gap_s, plan.ahead_until_s) - begun_s)
        if plan.ahead_from_s <= gap_s < plan.ahead_until_s:
            return Outcome(0, held_s)
    return Outcome(1, held_s + restart_s)


def best_fixed(gaps: Sequence[float], restart_s: float, most_held_s: float) -> Outcome:
    """Of all fixed values that hold no more, the one with the fewest cold starts: found by looking
    back, which nobody can."""
    values = {0.0, *EDGES_S, *sorted(gaps)[:: max(1, len(gaps) // 60)]}
    outcomes = (of_fixed(gaps, value, restart_s) for value in values)
    fitting = [outcome for outcome in outcomes if outcome.held_s <= most_held_s]
    none = of_fixed(gaps, 0.0, restart_s)
    return min(fitting, key=lambda outcome: outcome.num_cold, default=none)
