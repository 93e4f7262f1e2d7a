"""One cell of the evaluation with one seed: every variant on the same requests."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.slo.published import CVS, RATES
from libs.common.startmode import StartMode
from services.scheduler.simulation.results.report import Run, run_of
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.scenario.scenario import Scenario, load
from services.scheduler.simulation.scenario.traffic import Traffic
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.workload import draw_workload

SCENARIO = "nsdi26-e2e"
MEASURED, PUBLISHED = "measured", "published"
_KEEP = Override("host_cache.keeps_units", True)
_FIGURES = (
    *("ttft_attainment", "tpot_attainment", "attainment", "num_requests", "num_cold_requests"),
    *("num_starts", "num_unserved", "num_models_asked", "starts_by_num_stages", "cost"),
    *("ttft_cold_s", "tpot_s"),
)

Sample = dict[str, Any]  # as it stands in the report


@dataclass(frozen=True)
class Variant:
    """A policy, with host caches or without. `keeps` says with which constants units that no
    worker needs stay there. `has_fixed_keep_alive`: as published, whatever the constants say.
    `has_own_scheduler`: this project's, with the constants of the published system."""

    name: str
    mode: StartMode
    keeps: frozenset[str] = frozenset()
    has_fixed_keep_alive: bool = False
    has_own_scheduler: bool = False

    def scenario(self, plain: Scenario) -> Scenario:
        leader, models = plain.leader, plain.models
        if self.has_own_scheduler:
            leader = replace(leader, waits_for_starts=False, assumed_launch_s=None)
        if self.has_fixed_keep_alive:
            models = tuple(replace(group, is_keep_alive_auto=False) for group in models)
        return replace(plain, leader=leader, models=models)


# The published ServerlessLLM had room for one model in each node's memory, so next to nothing to
# find there: its cache is on with `measured` alone.
VARIANTS = (
    Variant("sequential", StartMode.SEQUENTIAL),
    Variant("cached", StartMode.CACHED, frozenset({MEASURED})),
    Variant("single", StartMode.SINGLE),
    Variant("hydra", StartMode.HYDRA),
    Variant("hydra_cache", StartMode.HYDRA, frozenset({MEASURED, PUBLISHED})),
)
# In one cell: with `measured` each model is kept for as long as its gaps and its target make it
# worth, by every policy; with these for 30 s, as published.
FIXED = (
    Variant("sequential_keep30", StartMode.SEQUENTIAL, has_fixed_keep_alive=True),
    Variant("single_keep30", StartMode.SINGLE, has_fixed_keep_alive=True),
    Variant("hydra_keep30", StartMode.HYDRA, has_fixed_keep_alive=True),
)
# With `published`: what that system came to if it looked at its queues while models start, and
# knew how long they take to.
OWN = (Variant("hydra_own_scheduler", StartMode.HYDRA, has_own_scheduler=True),)
GOAL = (MEASURED, 8, 0.6)  # the cell that goals are about


@dataclass(frozen=True)
class Cell:
    constants: str
    cv: int
    rate_per_s: float
    seed: int

    @property
    def variants(self) -> tuple[Variant, ...]:
        is_goal = (self.constants, self.cv, self.rate_per_s) == GOAL
        more = OWN if self.constants == PUBLISHED else FIXED if is_goal else ()
        return (*VARIANTS, *more)

    @property
    def base(self) -> tuple[str, Traffic]:
        """The same for cells whose requests are: `published` has one CV in all columns."""
        return self.constants, self.scenario(VARIANTS[0]).traffic

    def scenario(self, variant: Variant) -> Scenario:
        overrides = [
            Override("traffic.cv", self.cv),
            Override("traffic.rate_per_s", self.rate_per_s),
        ]
        overrides += [_KEEP] if self.constants in variant.keeps else []
        return variant.scenario(load(SCENARIO, overrides, self.constants))


def cells(num_seeds: int) -> Iterator[Cell]:
    """Seed by seed, so that whoever stops early has all cells."""
    for seed in range(1, num_seeds + 1):
        for constants in (MEASURED, PUBLISHED):
            for cv in CVS:
                for rate_per_s in RATES:
                    yield Cell(constants, cv, rate_per_s, seed)


def run_cell(cell: Cell) -> list[Sample]:
    """A sample of each variant, with the same requests. Raises SimulationError."""
    runs: dict[str, Run] = {}
    for variant in cell.variants:
        scenario = cell.scenario(variant)
        simulation = Simulation(scenario, variant.mode, draw_workload(scenario, cell.seed))
        began_s = perf_counter()
        simulation.run()
        runs[variant.name] = run_of(
            simulation, variant.mode.value, cell.seed, perf_counter() - began_s
        )
    return [
        _sample(cell, variant.name, runs[variant.name], runs[_base_of(variant).name])
        for variant in cell.variants
    ]


def _base_of(variant: Variant) -> Variant:
    """What its cost is told by: the same keep-alive with the plainest policy."""
    return FIXED[0] if variant.has_fixed_keep_alive else VARIANTS[0]


def _sample(cell: Cell, name: str, run: Run, base: Run) -> Sample:
    return {
        "constants": cell.constants,
        "cv": cell.cv,
        "rate_per_s": cell.rate_per_s,
        "seed": cell.seed,
        "policy": name,
        **{key: run.figures[key] for key in _FIGURES},
        "groups": {group: _of_group(own) for group, own in _table(run, "groups").items()},
        "ratios": ratios(_table(run, "models"), _table(base, "models")),
        "total_cost_ratio": _total(run, "total_gb_s") / _total(base, "total_gb_s"),
        "total_device_ratio": _total(run, "device_gb_s") / _total(base, "device_gb_s"),
        "wall": run.wall,
    }


def ratios(models: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float]:
    """Means over models of their figures by those of the baseline, as figure 13 has them: a model
    that is asked once counts as much as one that is asked a thousand times."""
    found = {}
    for name, key in (
        ("cost", "cost_gb_s"),
        ("device", "device_gb_s"),
        ("tpot", "tpot_mean_s"),
    ):
        pairs = [(models[id_][key], base[id_][key]) for id_ in base if id_ in models]
        found[name] = float(np.mean([own / of_base for own, of_base in pairs if own and of_base]))
    return found


def _of_group(own: Mapping[str, Any]) -> Sample:
    keys = ("num_requests", "ttft_attainment", "tpot_attainment", "device_gb_s")
    return {key: own[key] for key in keys}


def _table(run: Run, key: str) -> Mapping[str, Any]:
    found = run.figures[key]
    assert isinstance(found, Mapping)
    return found


def _total(run: Run, key: str) -> float:
    found = run.number("cost", key)
    assert found, "every run costs something"
    return found
