"""A cold start's steps as a table and as bars over a common time axis, for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.table import Table

_BAR_WIDTH = 40
_FULL, _LEFT_HALF, _RIGHT_HALF = "█", "▌", "▐"


@dataclass(frozen=True)
class Step:
    """What `actor` did, in seconds since the cold start began; no end where none was reported."""

    actor: str
    name: str
    start_s: float
    end_s: float | None
    detail: str

    @property
    def took_s(self) -> float | None:
        return None if self.end_s is None else self.end_s - self.start_s


def seconds_between(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def in_order(steps: Sequence[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: (step.start_s, step.end_s or float("inf"), step.name))


def timeline_table(steps: Sequence[Step], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("who", "step"):
        table.add_column(heading, no_wrap=True)
    for heading in ("at, s", "took, s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", style="dim", overflow="fold")
    for step in in_order(steps):
        table.add_row(
            step.actor, step.name, _format(step.start_s), _format(step.took_s), step.detail
        )
    return table


def gantt(steps: Sequence[Step], width: int = _BAR_WIDTH) -> Table:
    """One line per step; the axis ends with the last step."""
    end_s = max((step.end_s or step.start_s for step in steps), default=0.0)
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=width, no_wrap=True)
    for step in in_order(steps):
        table.add_row(step.name, bar(step.start_s, step.end_s or end_s, end_s, width))
    table.add_row("", f"0 s{f'{end_s:.3f} s':>{width - 3}}", style="dim")
    return table


def bar(start_s: float, end_s: float, total_s: float, width: int) -> str:
    """Blocks from start to end on an axis of `width` characters, to half a character.

    A step too short to see gets half a block where it stands.
    """
    halves = 2 * width
    scale = halves / total_s if total_s > 0 else 0.0
    first = min(max(int(start_s * scale), 0), halves - 1)
    last = min(max(int(end_s * scale), first + 1), halves)
    cells = (
        (2 * cell >= first and 2 * cell < last, 2 * cell + 1 >= first and 2 * cell + 1 < last)
        for cell in range(width)
    )
    return "".join(_BLOCKS[cell] for cell in cells).rstrip()


_BLOCKS = {
    (False, False): " ",
    (True, False): _LEFT_HALF,
    (False, True): _RIGHT_HALF,
    (True, True): _FULL,
}


def _format(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f}"
