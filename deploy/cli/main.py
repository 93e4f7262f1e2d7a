"""The `hydraserve` command.

Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no server reached, 4 not
authorized, 5 overloaded or not ready, 130 Ctrl-C.
"""

from typing import Annotated

import typer

from deploy.cli.commands import (
    chat,
    cold_starts,
    doctor,
    keys,
    loading,
    models,
    nodes,
    simulate,
    up,
    usage,
)
from deploy.cli.group import OneLineErrors
from deploy.cli.session import Session
from deploy.local.state.state_folder import StateFolder

app = typer.Typer(
    name="hydraserve",
    cls=OneLineErrors,
    help=__doc__,
    rich_markup_mode=None,
    add_completion=False,
    invoke_without_command=True,
)
app.add_typer(models.app, name="models")
app.add_typer(cold_starts.app, name="cold-starts")
app.add_typer(keys.app, name="keys")
app.command("nodes")(nodes.nodes)
app.command("status")(nodes.status)
app.command("usage")(usage.usage)
app.command("requests")(usage.requests)
app.command("preload")(loading.preload)
app.command("unload")(loading.unload)
app.command("pin")(loading.pin)
app.command("chat")(chat.chat)
app.command("doctor")(doctor.doctor)
app.command("simulate")(simulate.simulate)
# What comes after `up` is the stack's own to parse, its `--help` too.
_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": []}
app.command("up", context_settings=_PASSED_ON)(up.up)

_URL_HELP = "The gateway. Default: the stack that runs from the local state folder."
_KEY_HELP = "Default: that stack's own key, for that stack only."


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(envvar="HYDRASERVE_URL", help=_URL_HELP)] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="HYDRASERVE_API_KEY", help=_KEY_HELP, show_default=False)
    ] = None,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit
    if context.obj is None:
        context.obj = Session(url, api_key, StateFolder.from_environment())


def main() -> None:
    """The entry point of the installed command. Raises SystemExit."""
    app()
