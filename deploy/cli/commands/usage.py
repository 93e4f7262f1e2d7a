"""`hydraserve usage` and `hydraserve requests`: what models cost, and which requests were late."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from deploy.cli.commands.options import JsonOption
from deploy.cli.output.formatting import age
from deploy.cli.output.terminal import Terminal, listing
from deploy.cli.output.usage_tables import request_rows, usage_rows
from deploy.cli.session import connect
from deploy.cli.usage_views import Request, UsageReport

HoursOption = Annotated[
    int, typer.Option(min=1, max=744, help="From the beginning of the hour so many hours ago.")
]
LimitOption = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", help="Another tenant's; operators only.")
]


def usage(
    context: typer.Context,
    hours: HoursOption = 24,
    limit: LimitOption = 50,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """What each model cost in device memory x time, and how it kept its SLO.

    What costs most comes first. STARTING, BUSY and IDLE are parts of the memory x time.
    """
    terminal = Terminal()
    params: dict[str, str | int] = {"hours": hours, "limit": limit}
    with connect(context) as client:
        reply = client.get("/api/v1/usage", params | ({} if tenant is None else {"tenant": tenant}))
    if as_json:
        terminal.show_json(reply.content)
        return
    report = reply.view(UsageReport)
    parts = ("STARTING", "BUSY", "IDLE")
    headings = ("MODEL", "TENANT", "MEMORY", *parts, "REQUESTS", "SLO MET", "MISSED BY")
    terminal.show(listing(headings, usage_rows(report.models)))
    terminal.note(f"since {report.since.isoformat(timespec='minutes')}")


def requests(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    missed: Annotated[bool, typer.Option("--missed", help="Only those that were late.")] = False,
    reason: Annotated[str | None, typer.Option(help="Only those that were late for it.")] = None,
    hours: HoursOption = 24,
    limit: LimitOption = 20,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Requests, the newest first: what they took, what their SLO allowed, why they were late."""
    terminal = Terminal()
    named = {"model": model, "reason": reason, "tenant": tenant}
    params: dict[str, str | int] = {k: v for k, v in named.items() if v is not None}
    params |= {"hours": hours, "limit": limit} | ({"missed": "true"} if missed else {})
    with connect(context) as client:
        reply = client.get("/api/v1/requests", params)
    if as_json:
        terminal.show_json(reply.content)
        return
    now = datetime.now(UTC)
    found = reply.view(list[Request])
    headings = ("ID", "MODEL", "ARRIVED", "END", "TTFT", "OF", "TPOT", "OF", "SLO")
    terminal.show(listing(headings, request_rows(found, [age(r.arrived_at, now) for r in found])))
