"""How a benchmark tells what it found: a table on the screen, a JSON file, a picture."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

OUT = Path(__file__).parent / "out"
_INCHES_PER_BAR = 0.42


def write_report(
    name: str,
    *,
    summary: Mapping[str, object],
    samples: object,
    seeds: object,
    packages: Sequence[str] = (),
    **more: object,
) -> Path:
    """Write `benchmarks/out/<name>.json`: summary first, then what it was made of.

    `samples` are the raw figures, `seeds` say which inputs they belong to, `more` are further
    entries of the document.
    """
    document = {
        "summary": summary,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "machine": machine(packages),
        "seeds": seeds,
        **more,
        "samples": samples,
    }
    path = OUT / f"{name}.json"
    OUT.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {path}")
    return path


def print_summary(summary: Mapping[str, object]) -> None:
    """One aligned line per figure."""
    width = max(len(key) for key in summary)
    for key, value in summary.items():
        print(
            f"{key:{width}}  {value:.4g}" if isinstance(value, float) else f"{key:{width}}  {value}"
        )


@dataclass(frozen=True)
class Bars:
    """One panel of a picture: named groups of bars, one bar per series in each."""

    title: str
    unit: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float | None]]  # one value per group; None leaves a gap


def draw_bars(name: str, panels: Sequence[Bars]) -> Path:
    """Write `benchmarks/out/<name>.svg`, panels side by side; needs the extra `bench`."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    widths = [max(4.5, _INCHES_PER_BAR * len(p.groups) * len(p.series)) for p in panels]
    figure, axes = pyplot.subplots(
        1,
        len(panels),
        figsize=(sum(widths), 3.6),
        width_ratios=widths,
        squeeze=False,
        layout="constrained",
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        _draw_panel(axis, panel)
    path = OUT / f"{name}.svg"
    OUT.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"written: {path}")
    return path


def _draw_panel(axis: Any, panel: Bars) -> None:
    width = 0.8 / len(panel.series)
    for index, (label, values) in enumerate(panel.series.items()):
        offset = (index - (len(panel.series) - 1) / 2) * width
        known = [(place + offset, value) for place, value in enumerate(values) if value is not None]
        bars = axis.bar([p for p, _ in known], [v for _, v in known], width * 0.95, label=label)
        axis.bar_label(bars, fmt="%.3g", fontsize=7)
    axis.set_xticks(range(len(panel.groups)), panel.groups, fontsize=8)
    axis.set_title(panel.title, fontsize=9)
    axis.set_ylabel(panel.unit, fontsize=8)
    if len(panel.series) > 1:
        axis.legend(fontsize=7)
