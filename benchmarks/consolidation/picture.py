"""One panel for each part: a stream's gaps around its switch, pauses, gaps while weights load,
times per token after it, first tokens of neighbours, and cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.consolidation.figures import gaps, median_interval, pauses
from benchmarks.consolidation.samples import (
    CostRun,
    LoadingRun,
    NeighbourRun,
    SwitchRun,
    TpotPair,
)
from benchmarks.consolidation.summary import loading_gaps, neighbour_ratios, tpot_ratios
from benchmarks.report import OUT

_PAUSE_BOUNDS_MS = (150, 400)
_TPOT_BOUNDS, _NEIGHBOUR_BOUND = (0.95, 1.05), 1.05


def draw(
    switches: Sequence[SwitchRun],
    loading: Sequence[LoadingRun],
    tpot_pairs: Sequence[TpotPair],
    neighbours: Sequence[NeighbourRun],
    costs: Sequence[CostRun],
) -> Path:
    """Write `benchmarks/out/consolidation.svg`; needs the extra `bench`."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(14, 7), layout="constrained")
    _draw_gaps(axes[0][0], switches)
    _draw_pauses(axes[0][1], switches)
    _draw_loading(axes[0][2], loading)
    _draw_ratios(axes[1][0], tpot_ratios(tpot_pairs), _TPOT_BOUNDS)
    axes[1][0].set_title("time per token after it, over one that started alone", fontsize=9)
    _draw_ratios(axes[1][1], neighbour_ratios(neighbours), (_NEIGHBOUR_BOUND,))
    axes[1][1].set_title("a neighbour's first token: during over without", fontsize=9)
    _draw_costs(axes[1][2], costs)
    path = OUT / "consolidation.svg"
    OUT.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"written: {path}")
    return path


def _draw_gaps(axis: Any, runs: Sequence[SwitchRun]) -> None:
    """Of all streams of the first switch, over time since the pipeline's first token."""
    axis.set_title("gaps between tokens of the first switch's streams", fontsize=9)
    axis.set_xlabel("s since the first token", fontsize=8)
    axis.set_ylabel("ms", fontsize=8)
    if not runs:
        return
    record = runs[0].record
    began_s = record.first_token_at_s
    found = [gap for stream in runs[0].streams for gap in gaps(stream.arrivals)]
    times = [gap.ended_at_s - began_s for gap in found]
    axis.plot(times, [1000 * gap.took_s for gap in found], ".", markersize=2, color="tab:blue")
    loading = (record.loading_at_s - began_s, record.loaded_at_s - began_s)
    axis.axvspan(*loading, color="tab:orange", alpha=0.2, label="loads")
    copying = (loading[1], record.frozen_at_s - began_s)
    axis.axvspan(*copying, color="tab:green", alpha=0.3, label="copies keys and values")
    axis.axvline(record.moved_at_s - began_s, color="tab:red", linewidth=1, label="one worker")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7)


def _draw_pauses(axis: Any, runs: Sequence[SwitchRun]) -> None:
    axis.set_title("pause of each request: what the switch added", fontsize=9)
    axis.set_xlabel("switch", fontsize=8)
    axis.set_ylabel("ms", fontsize=8)
    for place, run in enumerate(runs):
        found = pauses(run)
        places = [place + 0.06 * (n - len(found) / 2) for n in range(len(found))]
        whole = [1000 * pause.gap_s for pause in found]
        label = "the whole gap" if place == 0 else None
        axis.plot(places, whole, "x", markersize=3, color="tab:gray", label=label)
        label = "less an ordinary one" if place == 0 else None
        added = [1000 * pause.added_s for pause in found]
        axis.plot(places, added, ".", markersize=4, color="tab:blue", label=label)
    for bound, name in zip(_PAUSE_BOUNDS_MS, ("p50", "p99"), strict=True):
        axis.axhline(bound, linestyle="--", linewidth=1, color="tab:red")
        axis.annotate(
            f"bound of {name}", (0.01, bound), xycoords=("axes fraction", "data"), fontsize=7
        )
    axis.set_xticks(range(len(runs)))
    axis.set_ylim(bottom=0)
    if runs:
        axis.legend(fontsize=7)


def _draw_loading(axis: Any, loading: Sequence[LoadingRun]) -> None:
    """What share of the gaps is not longer."""
    axis.set_title("gaps between tokens while it loads", fontsize=9)
    axis.set_xlabel("ms", fontsize=8)
    axis.set_ylabel("share of gaps", fontsize=8)
    for label, loads in (("while it loads", True), ("without", False)):
        values = loading_gaps(loading, loads=loads)
        ordered = sorted(1000 * value for value in values)
        axis.plot(ordered, [(n + 1) / len(ordered) for n in range(len(ordered))], label=label)
    axis.set_xlim(left=0)
    if loading:
        axis.legend(fontsize=7)


def _draw_ratios(axis: Any, ratios: Sequence[float], bounds: Sequence[float]) -> None:
    axis.set_xlabel("pair", fontsize=8)
    for bound in bounds:
        axis.axhline(bound, linestyle="--", linewidth=1, color="tab:red")
    if not ratios:
        return
    axis.plot(range(1, len(ratios) + 1), ratios, ".", color="tab:blue", markersize=5)
    found = median_interval(ratios)
    axis.axhline(found.value, color="tab:blue", linewidth=1, label=f"median {found.value:.3f}")
    axis.axhspan(found.low, found.high, color="tab:blue", alpha=0.2, label="its 95 % interval")
    axis.legend(fontsize=7)


def _draw_costs(axis: Any, costs: Sequence[CostRun]) -> None:
    axis.set_title("device memory x time of a trace", fontsize=9)
    axis.set_ylabel("GB s", fontsize=8)
    seeds = sorted({run.seed for run in costs})
    for shift, can_consolidate in ((-0.2, False), (0.2, True)):
        own = {r.seed: r.device_byte_s / 1e9 for r in costs if r.can_consolidate is can_consolidate}
        if own:
            label = "with consolidation" if can_consolidate else "without"
            places = [seeds.index(seed) + shift for seed in own]
            bars = axis.bar(places, list(own.values()), 0.38, label=label)
            axis.bar_label(bars, fmt="%.4g", fontsize=7)
    axis.set_xticks(range(len(seeds)), [f"seed {seed}" for seed in seeds], fontsize=8)
    if costs:
        axis.margins(y=0.25)  # room for the legend above the bars
        axis.legend(fontsize=7, loc="upper right")
