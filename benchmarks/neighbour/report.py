"""Writes what was found: JSON, a picture with intervals, lines on the screen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.neighbour.figures import (
    GAP_P99,
    METRICS,
    SEED,
    TTFT_P95,
    Interval,
    failures,
    level,
    ratio,
)
from benchmarks.neighbour.load_client import LARGE_BYTES
from benchmarks.neighbour.measured_client import SEED as PROBE_SEED
from benchmarks.neighbour.scene import MODEL_SEED
from benchmarks.neighbour.windows import Kind, Measured, Plan
from benchmarks.report import OUT, print_summary, write_report

BOUND = 2.0  # of both ratios
PACKAGES = ("torch", "nats-py", "uvloop", "uvicorn", "sqlalchemy", "asyncpg", "tokenizers")
_COMPARED = (Kind.CONTROL, Kind.OPENING, Kind.DISTURBED, Kind.CLOSING)
_Ratios = Mapping[str, Mapping[Kind, Interval]]


def write(measured: Measured, plan: Plan) -> None:
    ratios: _Ratios = {
        metric.name: {kind: ratio(measured, kind, metric) for kind in _COMPARED}
        for metric in METRICS
    }
    summary = _summary(measured, ratios)
    print_summary(summary)
    write_report(
        "neighbour",
        summary=summary,
        samples={"windows": _windows(measured), "measured": measured.samples},
        seeds={"weights": MODEL_SEED, "moments of requests": PROBE_SEED, "bootstrap": SEED},
        packages=PACKAGES,
        plan=asdict(plan),
        loads=measured.loads,
        ratios=_as_json(ratios),
        levels_s={
            metric.name: {kind.value: asdict(level(measured, kind, metric)) for kind in Kind}
            for metric in METRICS
        },
    )
    _draw(ratios)


def _summary(measured: Measured, ratios: _Ratios) -> dict[str, object]:
    summary: dict[str, object] = {}
    for metric in (GAP_P99, TTFT_P95):
        found = ratios[metric.name]
        summary[f"{metric.name}_ratio"] = found[Kind.DISTURBED].value
        for kind in (Kind.CONTROL, Kind.OPENING, Kind.CLOSING):
            summary[f"{metric.name}_ratio_{kind.value}"] = found[kind].value
        calm = level(measured, Kind.UNDISTURBED, metric)
        summary[f"{metric.name}_undisturbed_s"] = calm.value
    summary["num_failed"] = len(failures(measured))
    loads = [load for load in measured.loads if load["kind"] == Kind.DISTURBED.value]
    summary["num_held"] = min(load["held"].get("200", 0) for load in loads)
    for size in LARGE_BYTES:
        statuses = sum((Counter(load["sent"][str(size)]) for load in loads), Counter[str]())
        summary[f"statuses_of_{size}_bytes"] = dict(statuses)
    return summary


def _windows(measured: Measured) -> list[dict[str, object]]:
    return [{**asdict(window), "kind": window.kind.value} for window in measured.windows]


def _as_json(ratios: _Ratios) -> dict[str, object]:
    return {
        name: {kind.value: asdict(found) for kind, found in by_kind.items()}
        for name, by_kind in ratios.items()
    }


def _draw(ratios: _Ratios) -> Path:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(ratios), figsize=(9, 3.6), layout="constrained")
    for axis, (name, by_kind) in zip(axes, ratios.items(), strict=True):
        values = [by_kind[kind].value for kind in _COMPARED]
        axis.bar([kind.value for kind in _COMPARED], values, width=0.6, yerr=_errors(by_kind))
        axis.axhline(BOUND, linestyle="--", color="tab:red", label="bound")
        axis.set_title(f"{name}, times undisturbed", fontsize=9)
        axis.legend(fontsize=7)
    path = OUT / "neighbour.svg"
    OUT.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"written: {path}")
    return path


def _errors(by_kind: Mapping[Kind, Interval]) -> list[Sequence[float]]:
    """Below and above each value."""
    found = [by_kind[kind] for kind in _COMPARED]
    return [
        [max(0.0, x.value - x.low) for x in found],
        [max(0.0, x.high - x.value) for x in found],
    ]
