"""TTFT, TPOT and cost over the number of stages, a line for each number of full-memory workers:
measured medians with the least and the most of the runs, predicted ones as dashed lines."""

from pathlib import Path
from typing import Any

from benchmarks.report import OUT
from benchmarks.tradeoff.cells import NUM_NODES
from benchmarks.tradeoff.summary import Spread, Spreads, bound_s

_COLORS = ("tab:gray", "tab:blue", "tab:orange", "tab:green", "tab:red")  # by w
_TITLES = {
    "ttft_s": "first token (s)",
    "tpot_ms": "per token after it (ms)",
    "cost_gb_s": "device memory x time (GB s)",
}
_OFFSET = 0.05  # stages, so that intervals do not hide each other


def draw(found: Spreads, weight_bytes: int) -> Path:
    """Write `benchmarks/out/tradeoff.svg`; needs the extra `bench`."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    stages = range(1, NUM_NODES + 1)
    figure, axes = pyplot.subplots(1, len(_TITLES), figsize=(13, 4.2), layout="constrained")
    for axis, (name, title) in zip(axes, _TITLES.items(), strict=True):
        for num_full in range(NUM_NODES + 1):
            own = {c.num_stages: s[name] for c, s in found.items() if c.num_full == num_full}
            _draw_line(axis, num_full, own)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("stages s", fontsize=9)
        axis.set_xticks(stages)
        axis.set_ylim(bottom=0)
    bounds = [bound_s(weight_bytes, count) for count in stages]
    axes[0].plot(stages, bounds, ":", color="black", linewidth=1.2, label="bytes / (s x rate)")
    axes[0].plot([], [], "--", color="black", linewidth=1, label="predicted")
    axes[0].legend(fontsize=7)
    path = OUT / "tradeoff.svg"
    OUT.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"written: {path}")
    return path


def _draw_line(axis: Any, num_full: int, own: dict[int, Spread]) -> None:
    if not own:
        return
    places = [count + (num_full - NUM_NODES / 2) * _OFFSET for count in own]
    spreads, color = list(own.values()), _COLORS[num_full]
    axis.errorbar(
        places,
        [spread.measured for spread in spreads],
        yerr=[
            [spread.measured - spread.least for spread in spreads],
            [spread.most - spread.measured for spread in spreads],
        ],
        marker="o",
        markersize=3,
        capsize=2,
        linewidth=1.2,
        color=color,
        label=f"w = {num_full}",
    )
    predicted = [spread.predicted for spread in spreads]
    axis.plot(places, predicted, "--", marker="x", markersize=4, linewidth=1, color=color)
