"""A picture of runs: times to the first token, SLOs met, and what that cost, policy by policy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.scheduler.simulation.errors import SimulationError
from services.scheduler.simulation.results.report import Run, by_policy
from services.scheduler.simulation.scenario.scenario import Scenario

_SUFFIXES = (".svg", ".png", ".pdf")


def check_picture(path: Path) -> None:
    """Raises SimulationError before anything is simulated for a picture that cannot be drawn."""
    if path.suffix not in _SUFFIXES:
        raise SimulationError(f"{path}: a picture ends with {', '.join(_SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as exc:
        raise SimulationError("a picture needs matplotlib: install hydraserve[bench]") from exc


def draw(path: Path, scenario: Scenario, runs: Sequence[Run]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    _draw_ttft(axes[0], runs)
    _draw_attainment(axes[1], scenario, runs)
    _draw_cost(axes[2], runs)
    figure.suptitle(scenario.description or scenario.name, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _draw_ttft(axis: Any, runs: Sequence[Run]) -> None:
    for policy, own in by_policy(runs).items():
        values = np.sort(np.concatenate([run.ttft_s for run in own]))
        parts = np.arange(1, len(values) + 1) / max(1, len(values))
        axis.plot(np.maximum(values, 1e-3), parts, label=policy)
    axis.set_xscale("log")
    axis.set_xlabel("time to first token, s")
    axis.set_ylabel("part of the served requests")
    axis.legend(fontsize=8)


def _draw_attainment(axis: Any, scenario: Scenario, runs: Sequence[Run]) -> None:
    names, policies = [group.name for group in scenario.models], by_policy(runs)
    width = 0.8 / len(policies)
    for place, (policy, own) in enumerate(policies.items()):
        heights = [_mean_of_group(own, name) for name in names]
        offset = (place - (len(policies) - 1) / 2) * width
        axis.bar(np.arange(len(names)) + offset, heights, width * 0.95, label=policy)
    axis.set_xticks(range(len(names)), names, fontsize=7, rotation=20)
    axis.set_ylim(0, 1)
    axis.set_ylabel("TTFT SLO met")


def _mean_of_group(runs: Sequence[Run], name: str) -> float:
    values = (run.number("groups", name, "ttft_attainment") for run in runs)
    return float(np.mean([value for value in values if value is not None] or [0.0]))


def _draw_cost(axis: Any, runs: Sequence[Run]) -> None:
    policies = by_policy(runs)
    heights = [
        float(np.mean([run.number("device_gb_s") or 0.0 for run in own]))
        for own in policies.values()
    ]
    axis.bar(range(len(policies)), heights, 0.6)
    axis.set_xticks(range(len(policies)), list(policies), fontsize=8)
    axis.set_ylabel("device memory x time, GB s")
