"""What the samples of all cells and seeds come to. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.slo import published
from benchmarks.slo.cells import GOAL, MEASURED, PUBLISHED, Sample
from services.scheduler.simulation.results.intervals import Interval, interval

NEAR_POINTS = 8.0  # of the published values, in per cent
LEAST, MOST_COST = 0.95, 0.80  # goals: attainment, cost by that of `sequential`

Value = Callable[[Sample], float]


@dataclass(frozen=True)
class Place:
    """A policy in a cell, over all seeds."""

    constants: str
    policy: str
    cv: int
    rate_per_s: float

    @property
    def suffix(self) -> str:
        return f"{self.policy}_cv{self.cv}_rate{round(10 * self.rate_per_s):02d}"


Places = Mapping[Place, Sequence[Sample]]


def by_place(samples: Sequence[Sample]) -> Places:
    found: defaultdict[Place, list[Sample]] = defaultdict(list)
    for sample in samples:
        place = (sample["constants"], sample["policy"], sample["cv"], sample["rate_per_s"])
        found[Place(*place)].append(sample)
    return found


def over_seeds(places: Places, value: Value) -> dict[Place, Interval]:
    return {place: interval([value(s) for s in own]) for place, own in places.items()}


def ttft_attainment(sample: Sample) -> float:
    return float(sample["ttft_attainment"])


def summary_of(places: Places) -> dict[str, float]:
    """`attainment` is the share of requests whose first token was in time, as it was published."""
    prefixes = {MEASURED: "", PUBLISHED: "published_"}
    found = {
        f"{prefixes[place.constants]}attainment_{place.suffix}": value.mean
        for place, value in over_seeds(places, ttft_attainment).items()
    }
    for place, own in places.items():
        if (place.constants, place.cv, place.rate_per_s) == GOAL:
            found |= dict(_of_goal_cell(place, own))
    return {key: round(value, 4) for key, value in found.items()}


def _of_goal_cell(place: Place, own: Sequence[Sample]) -> Iterator[tuple[str, float]]:
    """Ratios are to `sequential`: means over models, as published, and of the sums."""
    values: dict[str, Value] = {
        "tpot_attainment": lambda s: float(s["tpot_attainment"]),
        "both_attainment": lambda s: float(s["attainment"]),
        "cost_ratio": lambda s: float(s["ratios"]["cost"]),
        "cost_ratio_without_host_memory": lambda s: float(s["ratios"]["device"]),
        "total_cost_ratio": lambda s: float(s["total_cost_ratio"]),
        "mean_tpot_ratio": lambda s: float(s["ratios"]["tpot"]),
        "starting_share": lambda s: float(s["cost"]["starting_share"]),
    }
    for name, value in values.items():
        yield f"{name}_{place.suffix}", interval([value(sample) for sample in own]).mean


def cell_table(places: Places) -> list[dict[str, Any]]:
    """Each policy in each cell, with intervals, beside what was published."""
    rows = []
    for place, value in over_seeds(places, ttft_attainment).items():
        was = published.attainment(place.policy, place.cv, place.rate_per_s)
        tpot = interval([float(s["tpot_attainment"]) for s in places[place]])
        cost = interval([float(s["cost"]["total_gb_s"]) for s in places[place]])
        rows.append(
            {
                "constants": place.constants,
                "policy": place.policy,
                "cv": place.cv,
                "rate_per_s": place.rate_per_s,
                "ttft_attainment": value.as_json(),
                "tpot_attainment": tpot.as_json(),
                "cost_gb_s": cost.as_json(),
                "published_ttft_attainment": was,
                "points_off": None if was is None else round(100 * (value.mean - was), 1),
            }
        )
    return rows


def goals(summary: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each with what was found."""
    cell = "cv8_rate06"
    hydra_tpot, base_tpot = (
        summary[f"tpot_attainment_{policy}_{cell}"] for policy in ("hydra", "sequential")
    )
    attainment, ratio = (
        summary[f"attainment_hydra_{cell}"],
        summary[f"cost_ratio_hydra_{cell}"],
    )
    return [
        _goal("attainment of hydra", f">= {LEAST}", attainment, attainment >= LEAST),
        _goal("cost of hydra by sequential's", f"<= {MOST_COST}", ratio, ratio <= MOST_COST),
        _goal("TPOT attainment of hydra", f">= {base_tpot}", hydra_tpot, hydra_tpot >= base_tpot),
    ]


def _goal(what: str, wanted: str, found: float, is_met: bool) -> dict[str, Any]:
    return {"what": f"{what}, measured, CV 8, 0.6/s", "wanted": wanted, "found": found} | {
        "is_met": is_met
    }


def far_off(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cells with `published` constants that are not near the published values."""
    return [
        f"{row['policy']} at CV {row['cv']}, {row['rate_per_s']}/s: {row['points_off']:+.1f} points"
        for row in table
        if row["constants"] == PUBLISHED
        and row["points_off"] is not None
        and abs(row["points_off"]) > NEAR_POINTS
    ]
