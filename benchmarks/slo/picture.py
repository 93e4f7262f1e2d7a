"""Targets met by rate, one panel for each CV and set of constants: means with their 95 % intervals,
published values as dashed lines. What was not measured is not drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import OUT
from benchmarks.slo import published
from benchmarks.slo.cells import MEASURED, PUBLISHED, VARIANTS
from benchmarks.slo.summary import Place
from services.scheduler.simulation.results.intervals import Interval

_COLORS = ("tab:red", "tab:orange", "tab:gray", "tab:blue", "tab:green")
_OFFSET = 0.008  # requests/s, so that intervals do not hide each other


def draw(attainment: Mapping[Place, Interval]) -> Path:
    """Write `benchmarks/out/slo.svg`; needs the extra `bench`."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2, len(published.CVS), figsize=(12, 7), sharex=True, sharey=True, layout="constrained"
    )
    for row, constants in enumerate((MEASURED, PUBLISHED)):
        for column, cv in enumerate(published.CVS):
            axis = axes[row][column]
            for index, variant in enumerate(VARIANTS):
                place = {rate: Place(constants, variant.name, cv, rate) for rate in published.RATES}
                found = {rate: attainment[p] for rate, p in place.items() if p in attainment}
                _draw_policy(axis, variant.name, index, found)
                if constants == PUBLISHED:
                    _draw_published(axis, variant.name, index, cv)
            axis.set_title(f"constants `{constants}`, CV {cv}", fontsize=9)
            axis.set_ylim(0, 1.02)
    for axis in axes[-1]:
        axis.set_xlabel("requests/s")
        axis.set_xticks(published.RATES)
    for row_axes in axes:
        row_axes[0].set_ylabel("TTFT target met")
    axes[0][0].legend(fontsize=7, loc="lower left")
    axes[1][0].plot([], [], "--", color="black", label="published")
    axes[1][0].legend(fontsize=7, loc="lower left")
    path = OUT / "slo.svg"
    OUT.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"written: {path}")
    return path


def _draw_policy(axis: Any, name: str, index: int, found: Mapping[float, Interval]) -> None:
    if not found:
        return
    shift = (index - (len(VARIANTS) - 1) / 2) * _OFFSET
    halves = [value.half or 0.0 for value in found.values()]
    axis.errorbar(
        [rate + shift for rate in found],
        [value.mean for value in found.values()],
        yerr=halves if any(halves) else None,
        marker="o",
        markersize=3,
        capsize=2,
        linewidth=1,
        color=_COLORS[index],
        label=name,
    )


def _draw_published(axis: Any, name: str, index: int, cv: int) -> None:
    values = [published.attainment(name, cv, rate) for rate in published.RATES]
    if None not in values:
        axis.plot(published.RATES, values, "--", linewidth=1, color=_COLORS[index])
