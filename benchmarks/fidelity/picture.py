"""Simulated times to first tokens over real ones, beside those of the second real run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fidelity.comparison import Outcome, Pair
from benchmarks.report import OUT

_KINDS: tuple[tuple[str, str, Callable[[Outcome], bool]], ...] = (
    ("warm", "tab:gray", lambda outcome: not outcome.is_cold),
    ("cold, one worker", "tab:blue", lambda o: o.is_cold and (o.num_stages or 1) == 1),
    ("cold, a pipeline", "tab:red", lambda o: o.is_cold and (o.num_stages or 1) > 1),
)
_BAND = 1.25  # of the diagonal, drawn for the eye


def draw(simulated: Sequence[Pair], real: Sequence[Pair]) -> Path:
    """Write `benchmarks/out/fidelity.svg`; needs the extra `bench`."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, 2, figsize=(11, 5), sharex=True, sharey=True, layout="constrained"
    )
    _draw_panel(axes[0], simulated, "simulated, over both real runs", "simulated TTFT, s")
    _draw_panel(axes[1], real, "second real run, over the first one", "second run's TTFT, s")
    axes[0].legend(fontsize=8, loc="upper left")
    path = OUT / "fidelity.svg"
    OUT.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"written: {path}")
    return path


def _draw_panel(axis: Any, pairs: Sequence[Pair], title: str, label: str) -> None:
    known = [p for p in pairs if p.real.ttft_s and p.other.ttft_s]
    for name, color, belongs in _KINDS:
        own = [pair for pair in known if belongs(pair.real)]
        axis.scatter(
            [pair.real.ttft_s for pair in own],
            [pair.other.ttft_s for pair in own],
            s=12,
            alpha=0.6,
            color=color,
            label=f"{name} ({len(own)})",
        )
    times = [t for p in known for t in (p.real.ttft_s, p.other.ttft_s) if t]
    if times:
        ends = [min(times), max(times)]
        axis.plot(ends, ends, color="black", linewidth=1)
        for factor in (_BAND, 1 / _BAND):
            axis.plot(ends, [factor * end for end in ends], ":", color="black", linewidth=0.7)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("real TTFT, s")
    axis.set_ylabel(label)
