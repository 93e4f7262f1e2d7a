"""`hydraserve up`: the embedded stack on this machine."""

from typing import Annotated

import typer


def up(
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPTIONS]", help="As of 'python -m deploy.local up'."),
    ] = None,
) -> None:
    """Start the stack on this machine and keep it; '--help' lists its options."""
    from deploy.local.cli import main as run_local  # late: other commands need none of it

    raise typer.Exit(run_local(["up", *(options or ())]))
