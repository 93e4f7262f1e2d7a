"""A cold start for a terminal: a table of its steps, bars over one time axis, its critical path."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from libs.common.observability.criticalpath import Segment
from libs.common.observability.timeline import (
    ActorKind,
    TimedStep,
    gantt_rows,
    in_order,
    last_moment_s,
)
from libs.common.observability.timeshares import describe_shares, shares

_BAR_WIDTH = 40
_CRITICAL, _CRITICAL_MARK = "bold red", "*"  # the mark is for where there are no colours
_BLOCKS = {
    (False, False): " ",
    (True, False): "▌",
    (False, True): "▐",
    (True, True): "█",
}


def timeline_table(steps: Sequence[TimedStep], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("who", "step"):
        table.add_column(heading, no_wrap=True)
    for heading in ("at, s", "took, s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", style="dim", overflow="fold")
    for step in in_order(steps):
        times = (_format(step.start_s), _format(step.took_s))
        table.add_row(_who(step), step.name, *times, Text(step.detail))
    return table


def gantt(
    steps: Sequence[TimedStep], path: Sequence[Segment] = (), width: int = _BAR_WIDTH
) -> Table:
    """One line per step, stage by stage; what others waited for is marked."""
    end_s = last_moment_s(steps)
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(width=width, no_wrap=True)
    group = ""
    for row in gantt_rows(steps, [segment.step for segment in path]):
        heading = _group(row.step)
        drawn = bar(row.interval.start_s, row.interval.end_s, end_s, width)
        mark, style = (_CRITICAL_MARK, _CRITICAL) if row.is_critical else ("", "")
        label = row.step.name
        table.add_row(
            *("" if heading == group else heading, label, mark, Text(drawn, style=style)),
        )
        group = heading
    table.add_row("", "", "", f"0 s{f'{end_s:.3f} s':>{width - 3}}", style="dim")
    return table


def path_table(path: Sequence[Segment]) -> Table:
    """Who waited for whom: each line began when the one above it let it."""
    title = f"critical path: {describe_shares(shares(path)) or 'nothing was reported'}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("who", "waited for"):
        table.add_column(heading, no_wrap=True)
    for heading in ("from, s", "to, s", "s", "%"):
        table.add_column(heading, justify="right", no_wrap=True)
    total_s = sum(segment.seconds for segment in path)
    for segment in path:
        times = (segment.interval.start_s, segment.interval.end_s, segment.seconds)
        percent = f"{100 * segment.seconds / total_s:.0f}"
        table.add_row(_who(segment.step), segment.step.name, *(f"{t:.3f}" for t in times), percent)
    return table


def bar(start_s: float, end_s: float, total_s: float, width: int) -> str:
    """Blocks from start to end on an axis of `width` characters, to half a character.

    A step too short to see gets half a block where it stands.
    """
    halves = 2 * width
    scale = halves / total_s if total_s > 0 else 0.0
    first = min(max(int(start_s * scale), 0), halves - 1)
    last = min(max(int(end_s * scale), first + 1), halves)
    cells = ((first <= half < last, first <= half + 1 < last) for half in range(0, halves, 2))
    return "".join(_BLOCKS[cell] for cell in cells).rstrip()


def _group(step: TimedStep) -> str:
    if step.kind is ActorKind.SCHEDULER or step.stage_index is None:
        return step.who
    return f"stage {step.stage_index}, {step.node_id}"


def _who(step: TimedStep) -> str:
    is_stage = step.stage_index is not None and step.kind is not ActorKind.SCHEDULER
    return f"{step.who} ({step.stage_index})" if is_stage else step.who


def _format(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f}"
