"""Writes what was found: JSON, a picture of the growth with the number of nodes, lines on the
screen."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.controlplane import figures as f
from benchmarks.controlplane.figures import Figure
from benchmarks.controlplane.plan import DEVICES_PER_NODE, Plan
from benchmarks.controlplane.samples import Samples
from benchmarks.report import OUT, print_summary, write_report

NAME = "control-plane"
PACKAGES = ("nats-py", "pydantic", "sqlalchemy", "asyncpg", "uvloop", "numpy", "immutables")
_COLUMNS = 3


def write(found: Sequence[Samples], plan: Plan) -> None:
    summary = _summary(found, plan)
    print_summary(summary)
    write_report(
        NAME,
        summary=summary,
        samples=[asdict(samples) for samples in found],
        seeds={"load": plan.seed, "bootstrap": f.SEED},
        packages=PACKAGES,
        plan=asdict(plan),
        by_nodes={str(samples.num_nodes): _row(samples) for samples in found},
    )
    _draw(found)


def _summary(found: Sequence[Samples], plan: Plan) -> dict[str, object]:
    """Of the largest cluster; a figure that was not measured at the size in its name is not
    there."""
    largest = max(found, key=lambda samples: samples.num_nodes)
    size, thousands = largest.num_nodes, plan.num_models // 1000
    named = {
        f"planner_p99_ms_{size}x{DEVICES_PER_NODE}": f.PLANNER,
        f"planner_after_starts_p99_ms_{size}x{DEVICES_PER_NODE}": f.PLANNER_AFTER_STARTS,
        f"leader_cores_idle_{size}": f.LEADER,
        "heartbeat_median_bytes": f.HEARTBEAT,
        "heartbeat_agent_median_bytes": f.AGENT_HEARTBEAT,
        "cold_submit_p50_ms": f.SUBMIT_P50,
        "cold_submit_p99_ms": f.SUBMIT_P99,
        "cold_submit_steady_p50_ms": f.STEADY_P50,
        "cold_submit_steady_p99_ms": f.STEADY_P99,
        f"gateway_start_{thousands}k_s": f.GATEWAY_START,
        f"gateway_mb_{thousands}k": f.GATEWAY_MB,
        "registration_known_s": f.REGISTRATION,
        f"takeover_{size}_s": f.TAKEOVER,
    }
    summary = {key: value for key, fig in named.items() if (value := fig.of(largest)) is not None}
    return {**summary, **_waiting(found), **_failures(found)}


def _waiting(found: Sequence[Samples]) -> dict[str, object]:
    """Of the cluster in which thousands of models waited."""
    waited = [samples for samples in found if "waiting_all_served_s" in samples.figures]
    return {
        key: value
        for samples in waited
        for key, value in {
            "waiting": samples.counts.get("cold_waiting"),
            "waiting_all_served_s": samples.figures["waiting_all_served_s"],
            "waiting_longest_pause_s": samples.figures.get("waiting_longest_pause_s"),
            "waiting_leaders_lost": samples.figures["waiting_leaders_lost"],
        }.items()
    }


def _failures(found: Sequence[Samples]) -> dict[str, object]:
    """Requests that did not end as they should, in all clusters."""
    counts = [
        (name, status, count)
        for samples in found
        for name, statuses in samples.counts.items()
        if isinstance(statuses, dict)
        for status, count in statuses.items()
    ]
    num_whole = sum(count for _, status, count in counts if status == "whole")
    failed = [f"{count} x {name}: {status}" for name, status, count in counts if status != "whole"]
    return {"num_requests_whole": num_whole, "failed_requests": failed}


def _row(samples: Samples) -> dict[str, Any]:
    row: dict[str, Any] = {
        figure.title: {
            "value": figure.of(samples),
            "interval": figure.interval(samples),
            "unit": figure.unit,
            "bound": figure.bound,
        }
        for figure in (
            *f.PICTURED,
            f.PLANNER_AFTER_STARTS,
            f.STEADY_P50,
            f.STEADY_P99,
            f.AGENT_HEARTBEAT,
        )
    }
    return {**row, "single": samples.figures, "counts": samples.counts}


def _draw(found: Sequence[Samples]) -> Path:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    num_rows = -(-len(f.PICTURED) // _COLUMNS)
    figure, axes = pyplot.subplots(
        num_rows, _COLUMNS, figsize=(11, 2.8 * num_rows), layout="constrained", squeeze=False
    )
    places = [axis for row in axes for axis in row]
    for axis, one in zip(places, f.PICTURED, strict=False):
        _draw_one(axis, one, found)
    for axis in places[len(f.PICTURED) :]:
        axis.set_visible(False)
    path = OUT / f"{NAME}.svg"
    OUT.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"written: {path}")
    return path


def _draw_one(axis: Any, one: Figure, found: Sequence[Samples]) -> None:
    points = [(s.num_nodes, value) for s in found if (value := one.of(s)) is not None]
    axis.plot([x for x, _ in points], [y for _, y in points], marker="o")
    for samples in found:
        interval = one.interval(samples)
        if interval is not None:
            axis.plot([samples.num_nodes] * 2, interval, color="tab:blue", linewidth=3, alpha=0.4)
    if one.bound is not None:
        axis.axhline(one.bound, linestyle="--", color="tab:red", label=f"bound {one.bound:g}")
        axis.legend(fontsize=7)
    axis.set_ylim(bottom=0)
    axis.set_title(one.title, fontsize=9)
    axis.set_ylabel(one.unit, fontsize=8)
    axis.set_xlabel("nodes", fontsize=8)
    axis.set_xticks([samples.num_nodes for samples in found])
