"""Targets met and cost, by policy: means over seeds with their intervals, and each seed's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import OUT
from benchmarks.trace.samples import Sample
from benchmarks.trace.summary import FIGURES, by_policy
from services.scheduler.simulation.results.intervals import Interval

_PANELS = {
    "attainment": ("TTFT target met", "share of requests"),
    "tpot_attainment": ("TPOT target met", "share of requests"),
    "cost": ("device memory x time", "GB s per request"),
}


def draw(samples: Sequence[Sample], figures: Mapping[str, Mapping[str, Interval]]) -> Path:
    """Write `benchmarks/out/trace.svg`; needs the extra `bench`."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(_PANELS), figsize=(12, 3.8), layout="constrained")
    for axis, (name, (title, unit)) in zip(axes, _PANELS.items(), strict=True):
        _draw_panel(axis, name, samples, figures)
        axis.set_title(title, fontsize=10)
        axis.set_ylabel(unit, fontsize=9)
    path = OUT / "trace.svg"
    OUT.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"written: {path}")
    return path


def _draw_panel(
    axis: Any,
    name: str,
    samples: Sequence[Sample],
    figures: Mapping[str, Mapping[str, Interval]],
) -> None:
    values = {policy: own[name] for policy, own in figures.items()}
    halves = [value.half or 0.0 for value in values.values()]
    bars = axis.bar(
        list(values),
        [value.mean for value in values.values()],
        yerr=halves if any(halves) else None,
        capsize=3,
        color="tab:blue",
        alpha=0.6,
    )
    axis.bar_label(bars, fmt="%.3g", fontsize=8)
    for place, own in enumerate(by_policy(samples).values()):
        points = [FIGURES[name](sample) for sample in own]
        axis.plot([place] * len(points), points, "k.", markersize=4)
    axis.set_ylim(bottom=0)
