"""`hydraserve preload`, `unload` and `pin`: endpoints that nobody has to ask for."""

from typing import Annotated

import typer

from deploy.cli.client import model_path
from deploy.cli.commands.options import JsonOption, NameArgument
from deploy.cli.output.terminal import Terminal
from deploy.cli.session import connect
from deploy.cli.views import Model

EndpointsArgument = Annotated[
    int, typer.Argument(metavar="[ENDPOINTS]", min=0, help="How many; 0: none.")
]


def preload(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Start an endpoint of a model before anybody asks. It stays for the model's keep-alive."""
    _ask(context, name, "preload", f"{name} is loaded as soon as there is room", as_json)


def unload(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Let a model's endpoints go: idle ones now, busy ones once they have answered."""
    _ask(context, name, "unload", f"the endpoints of {name} go", as_json)


def pin(
    context: typer.Context,
    name: NameArgument,
    endpoints: EndpointsArgument = 1,
    as_json: JsonOption = False,
) -> None:
    """Keep so many endpoints of a model, whoever asks; 0 ends that. Only operators may pin."""
    terminal = Terminal()
    with connect(context) as client:
        reply = client.patch(model_path(name), {"min_endpoints": endpoints})
    if as_json:
        terminal.show_json(reply.content)
        return
    kept = reply.view(Model).min_endpoints
    terminal.show(f"{name} keeps {kept} endpoint{'s' if kept != 1 else ''} at least")


def _ask(context: typer.Context, name: str, what: str, sentence: str, as_json: bool) -> None:
    terminal = Terminal()
    with connect(context) as client:
        reply = client.post(f"{model_path(name)}/{what}", {})
    if as_json:
        terminal.show_json(reply.content)
    else:
        terminal.show(f"{sentence}; see 'hydraserve status'")
