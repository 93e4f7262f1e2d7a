"""`hydraserve cold-starts`: which there were, and what each of them waited for."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from deploy.cli.client import Client
from deploy.cli.commands.options import JsonOption
from deploy.cli.errors import Refused
from deploy.cli.output.formatting import age, one_line, seconds, size
from deploy.cli.output.plan_table import plan_report
from deploy.cli.output.terminal import Terminal, listing
from deploy.cli.session import connect
from deploy.cli.views import ColdStart, ColdStartDetail
from deploy.local.report.drawing import gantt, path_table, timeline_table
from libs.common.observability.criticalpath import critical_path

app = typer.Typer(help="Cold starts: which there were, and what they waited for.")
_PATH = "/api/v1/cold-starts"

IdArgument = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="Of the cold start; without it the newest.")
]


@app.command("ls")
def ls(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Cold starts, the newest first."""
    terminal = Terminal()
    params = {"limit": limit} | ({} if model is None else {"model": model})
    with connect(context) as client:
        reply = client.get(_PATH, params)
    if as_json:
        terminal.show_json(reply.content)
        return
    now = datetime.now(UTC)
    rows = [_row(start, now) for start in reply.view(list[ColdStart])]
    headings = ("ID", "MODEL", "BEGAN", "TOOK", "WEIGHTS", "FROM CACHE", "OUTCOME")
    terminal.show(listing(headings, rows))


@app.command("show")
def show(context: typer.Context, start_id: IdArgument = None, as_json: JsonOption = False) -> None:
    """A cold start's steps, its bars, its critical path, and the plans that were considered."""
    terminal = Terminal()
    with connect(context) as client:
        reply = client.get(f"{_PATH}/{start_id or _newest(client)}")
    if as_json:
        terminal.show_json(reply.content)
        return
    start = reply.view(ColdStartDetail)
    steps = start.timed_steps
    path = critical_path(steps, failure=start.failure)
    title = f"{start.id}: {start.model}, {start.outcome} after {seconds(start.took_s)}"
    cached = f"{size(start.bytes_from_cache)} of them from host caches"
    terminal.show(timeline_table(steps, title), gantt(steps, path), path_table(path))
    terminal.show(f"{size(start.weight_bytes)} of weights, {cached}")
    terminal.show(*plan_report(start))


def _newest(client: Client) -> str:
    """Raises Refused when there was none."""
    starts = client.get(_PATH, {"limit": 1}).view(list[ColdStart])
    if not starts:
        raise Refused("there was no cold start yet; ask a model with 'hydraserve chat MODEL'")
    return starts[0].id


def _row(start: ColdStart, now: datetime) -> tuple[str, ...]:
    return (
        start.id,
        start.model,
        age(start.started_at, now),
        seconds(start.took_s),
        size(start.weight_bytes),
        size(start.bytes_from_cache),
        one_line(start.outcome),
    )
