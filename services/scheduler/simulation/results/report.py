"""The document of one or more runs: each run's figures, and those of each policy over all seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.scheduler.simulation.results.costs import costs_of
from services.scheduler.simulation.results.figures import (
    Floats,
    Json,
    figures_by_model,
    figures_of,
    outcomes_by_group,
    rounded,
)
from services.scheduler.simulation.results.intervals import interval
from services.scheduler.simulation.scenario.scenario import Scenario
from services.scheduler.simulation.simulation import Simulation

MAX_LISTED_MODELS = 1_000  # with more, a run's figures are by group alone
_FIGURES = ("ttft_attainment", "tpot_attainment", "attainment", "device_gb_s", "num_starts")


@dataclass(frozen=True, eq=False)
class Run:
    """`figures` are the same for the same scenario, policy and seed; `wall` is of this machine."""

    policy: str
    seed: int
    figures: Json
    wall: Json
    ttft_s: Floats  # sorted, for pictures

    def number(self, *path: str) -> float | None:
        """One of the figures, e.g. `groups`, the group, `attainment`; None: it has none."""
        found: object = self.figures
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return float(found) if isinstance(found, int | float) else None


def run_of(simulation: Simulation, policy: str, seed: int, elapsed_s: float) -> Run:
    figures = _figures(simulation)
    ttft_s = np.array(simulation.recorder.ttft_s)
    served = np.sort(ttft_s[~np.isnan(ttft_s)])
    return Run(policy, seed, figures, _wall(simulation, elapsed_s), served)


def _figures(simulation: Simulation) -> Json:
    scenario, recorder = simulation.scenario, simulation.recorder
    outcomes, byte_s = outcomes_by_group(recorder, scenario.models), simulation.ledger.byte_s
    rounds, ended_at_s = simulation.leader.figures, simulation.events.now_s
    by_group: dict[str, float] = {group.name: 0.0 for group in scenario.models}
    for model_id, own in byte_s.items():
        by_group[simulation.cluster.catalogue.group_of(model_id).name] += own
    found, costs = figures_of(outcomes, sum(byte_s.values())), costs_of(simulation)
    return found | {
        "num_models_asked": simulation.workload.num_distinct_models,
        "num_starts": rounds.num_starts,
        "starts_per_s": rounded(rounds.num_starts / scenario.duration_s),
        "starts_by_num_stages": {
            str(stages): count for stages, count in sorted(recorder.starts_by_stages.items())
        },
        "refused": dict(sorted(recorder.reasons.items())),
        "num_unended": recorder.num_unended,
        "num_rounds": rounds.num_rounds,
        "num_decisions": rounds.num_decisions,
        "cost": costs.as_json(),
        "simulated_s": rounded(ended_at_s),
        "groups": {
            name: figures_of({name: part}, by_group[name]) for name, part in outcomes.items()
        },
        "models": figures_by_model(recorder, outcomes, costs)
        if simulation.workload.num_distinct_models <= MAX_LISTED_MODELS
        else {},
    }


def _wall(simulation: Simulation, elapsed_s: float) -> Json:
    rounds = simulation.leader.figures
    return {
        "elapsed_s": elapsed_s,
        "decide_s": rounds.decide_s,
        "decision_mean_ms": 1000 * rounds.decide_s / max(1, rounds.num_decisions),
        "round_mean_ms": 1000 * rounds.decide_s / max(1, rounds.num_rounds),
    }


def document(scenario: Scenario, runs: Sequence[Run]) -> Json:
    """What is of this machine alone stands under `wall`."""
    return {
        "scenario": scenario.name,
        "constants": scenario.constants,
        "traffic": {
            "process": scenario.traffic.process.value,
            "cv": scenario.traffic.cv,
            "rate_per_s": scenario.traffic.rate_per_s,
            "zipf_exponent": scenario.traffic.zipf_exponent,
        },
        "policies": {policy: _over_seeds(own) for policy, own in by_policy(runs).items()},
        "runs": [{"policy": run.policy, "seed": run.seed, **run.figures} for run in runs],
        "wall": [{"policy": run.policy, "seed": run.seed, **run.wall} for run in runs],
    }


def by_policy(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.policy, []).append(run)
    return found


def _over_seeds(runs: Sequence[Run]) -> Json:
    """Means with 95 % intervals."""
    values = {key: [run.number(key) or 0.0 for run in runs] for key in _FIGURES}
    values["cost_gb_s"] = [run.number("cost", "total_gb_s") or 0.0 for run in runs]
    return {key: interval(own).as_json() for key, own in values.items()}


def as_json(content: Json) -> str:
    return json.dumps(content, indent=1) + "\n"


def write_json(path: Path, content: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(content))
