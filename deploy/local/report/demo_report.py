"""What the demo shows of a cold start: stages, bars, what it waited for, the bounds."""

import os
from collections.abc import Mapping

from rich.console import RenderableType

from deploy.local.report.api_types import ColdStartInfo
from deploy.local.report.drawing import gantt, path_table
from deploy.local.report.fetch_bounds import FetchBounds, fetch_took_s
from deploy.local.report.stage_table import stage_table
from libs.common.observability.criticalpath import critical_path
from libs.common.observability.timeline import main_steps

_MIN_FRACTION = 0.05  # of the whole: shorter steps say little, unless others waited for them
_LABELS_WIDTH = 40  # beside the bars
_BAR_WIDTHS = (36, 72)


def cold_start_report(
    record: ColdStartInfo,
    first_token_s: float,
    nic_rates_bytes_per_s: Mapping[str, int],
    width: int,
) -> list[RenderableType]:
    """For a terminal of `width` characters; the network's rates are by node."""
    path = critical_path(record.steps)
    steps = main_steps(record.steps, [segment.step for segment in path], _MIN_FRACTION)
    bar_width = min(max(width - _LABELS_WIDTH, _BAR_WIDTHS[0]), _BAR_WIDTHS[1])
    title = f"first token after {first_token_s:.2f} s; each stage, in seconds since the plan"
    rates = tuple(nic_rates_bytes_per_s[node_id] for node_id in sorted(record.node_ids))
    words = [describe_bytes(record), *describe_bounds(record, rates), *describe_cores(record)]
    return [
        stage_table(record.steps, title),
        "the same as bars; * marks what everything after it waited for",
        gantt(steps, path, bar_width),
        "",
        path_table(path),
        "\n".join(words) + "\n",
    ]


def describe_bytes(record: ColdStartInfo) -> str:
    return (
        f"{megabytes(record.weight_bytes)} of weights, "
        f"{megabytes(record.bytes_from_cache)} of them from host caches"
    )


def describe_bounds(record: ColdStartInfo, rates_bytes_per_s: tuple[int, ...]) -> list[str]:
    """What the network would need at the least, with one link and with all of them; a rate of 0
    has no cap."""
    missing_bytes = record.weight_bytes - record.bytes_from_cache
    if missing_bytes == 0:
        return ["nothing had to come over the network"]
    if not all(rates_bytes_per_s):
        return [f"fetching {megabytes(missing_bytes)} took {fetch_took_s(record.steps):.2f} s"]
    bounds = FetchBounds(missing_bytes, rates_bytes_per_s)
    num_links, fastest = len(rates_bytes_per_s), megabytes(max(rates_bytes_per_s))
    return [
        f"fetching {megabytes(missing_bytes)} takes",
        f"  at least {bounds.alone_s:5.2f} s over one link of {fastest}/s",
        f"  at least {bounds.together_s:5.2f} s over the {num_links} links of these nodes",
        f"  and took {fetch_took_s(record.steps):5.2f} s",
    ]


def describe_cores(record: ColdStartInfo) -> list[str]:
    """Emulated nodes share one machine; real ones import with cores of their own."""
    num_workers, num_cores = len(record.stage_indexes), len(os.sched_getaffinity(0))
    if num_workers <= num_cores:
        return []
    imports = any(step.name == "spawn" and step.detail != "standby" for step in record.steps)
    doing = "import their libraries at once" if imports else "compute"
    return [f"{num_workers} workers {doing} on this machine's {num_cores} cores"]


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"
