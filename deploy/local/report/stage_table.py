"""A cold start as one line per stage: what it fetched, and when it had what it needed."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from libs.common.observability.timeline import ActorKind, TimedStep

_MOMENTS = {"libraries": "import", "ready": "ready"}  # heading: whose end


def stage_table(steps: Sequence[TimedStep], title: str) -> Table:
    """Moments in seconds since the plan, so that one sees which of them came last."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("stage", "node", "weights"):
        table.add_column(heading, no_wrap=True)
    for heading in ("fetched", *_MOMENTS):
        table.add_column(heading, justify="right", no_wrap=True)
    for index in sorted({s.stage_index for s in steps if s.stage_index is not None}):
        table.add_row(*_row(index, [step for step in steps if step.stage_index == index]))
    return table


def _row(index: int, steps: Sequence[TimedStep]) -> tuple[str | Text, ...]:
    """Of a stage that was started twice, what came last."""
    fetch = {s.name: s for s in steps if s.kind is ActorKind.FETCHER}.get("fetch")
    worker = {s.name: s for s in steps if s.kind is ActorKind.WORKER}
    node_id = next((s.node_id for s in reversed(steps) if s.node_id is not None), "-")
    moments = (_end(fetch), *(_end(worker.get(name)) for name in _MOMENTS.values()))
    return (str(index), node_id, Text(fetch.detail if fetch is not None else "-"), *moments)


def _end(step: TimedStep | None) -> str:
    return "-" if step is None or step.end_s is None else f"{step.end_s:.2f}"
