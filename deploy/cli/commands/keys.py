"""`hydraserve keys`: make, list and revoke API keys."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

import typer

from deploy.cli.commands.options import JsonOption
from deploy.cli.output.formatting import age
from deploy.cli.output.terminal import Terminal, listing
from deploy.cli.session import connect
from deploy.cli.views import ApiKey, CreatedKey

app = typer.Typer(help="Make, list and revoke API keys.")
_PATH = "/api/v1/api-keys"

TenantOption = Annotated[
    str | None, typer.Option("--tenant", help="Another tenant's; operators only.")
]


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once."""
    terminal = Terminal()
    with connect(context) as client:
        body = {"name": name} | ({} if tenant is None else {"tenant": tenant})
        reply = client.post(_PATH, body)
    if as_json:
        terminal.show_json(reply.content)
        return
    created = reply.view(CreatedKey)
    terminal.note(f"{created.id} of the tenant {created.tenant}; the key is not shown again")
    terminal.show(created.key)


@app.command("ls")
def ls(context: typer.Context, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """The keys that work: the tenant's, and for operators everybody's."""
    terminal = Terminal()
    with connect(context) as client:
        reply = client.get(_PATH, None if tenant is None else {"tenant": tenant})
    if as_json:
        terminal.show_json(reply.content)
        return
    now = datetime.now(UTC)
    headings = ("ID", "TENANT", "NAME", "CREATED", "USED")
    terminal.show(listing(headings, [_row(key, now) for key in reply.view(list[ApiKey])]))


@app.command("rm")
def rm(
    context: typer.Context, key_id: Annotated[str, typer.Argument(help="As `keys ls` shows it.")]
) -> None:
    """Revoke a key; within 10 s no gateway takes it any more."""
    terminal = Terminal()
    with connect(context) as client:
        client.delete(f"{_PATH}/{quote(key_id, safe='')}")
    terminal.show(f"{key_id} is revoked")


def _row(key: ApiKey, now: datetime) -> tuple[str, ...]:
    return (key.id, key.tenant, key.name, age(key.created_at, now), age(key.last_used_at, now))
