"""`hydraserve doctor`: whether the stack of this machine keeps its promises."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.errors import NotConnected, Refused, TryLater
from deploy.cli.output.terminal import Terminal, listing
from deploy.cli.session import Session
from deploy.local.doctor.connecting import database_of
from deploy.local.doctor.promises import Promise
from deploy.local.state.state_folder import StateFolder
from libs.common.errors import DatabaseUnavailable

if TYPE_CHECKING:  # it needs the database's driver, which other commands do without
    from deploy.local.doctor.examination import Examination

_TIMEOUT_HELP = "Seconds that a promise may take to hold again after a change."


def doctor(
    context: typer.Context,
    invariants: Annotated[
        bool, typer.Option("--invariants", help="Check the promises of docs/invariants.md.")
    ] = False,
    timeout: Annotated[float, typer.Option(help=_TIMEOUT_HELP, min=0)] = 20.0,
) -> None:
    """Look at the rows, processes and shared memory of this machine's stack."""
    if not invariants:
        raise typer.BadParameter("nothing to check: give --invariants", ctx=context)
    session = context.find_object(Session)
    assert session is not None  # the app's callback runs before every command
    found = asyncio.run(_examine(session.state, timeout))
    terminal = Terminal()
    terminal.show(listing(("PROMISE", "", "IT SAYS"), list(_rows(found))))
    for text in found.unchecked:
        terminal.show(f"not checked: {text}")
    if found.broken:
        raise Refused("promises are broken: docs/invariants.md says what each means")


async def _examine(folder: StateFolder, timeout_s: float) -> "Examination":
    settings = database_of(folder)
    if settings is None:
        raise NotConnected(f"no stack of yours runs from {folder.path}: set HYDRASERVE_STATE")
    from deploy.local.doctor.examination import examine, look_at
    from libs.common.records.database import Database

    database = Database.open(settings)
    try:
        return await examine(
            lambda: look_at(folder, database, is_whole_machine=True), timeout_s=timeout_s
        )
    except DatabaseUnavailable as exc:
        raise TryLater(f"the stack's record cannot be read: {exc}") from exc
    finally:
        await database.close()


def _rows(found: "Examination") -> Iterator[tuple[str, ...]]:
    for promise in Promise:
        texts = [broken.text for broken in found.broken if broken.promise is promise]
        yield (str(promise.value), "BROKEN" if texts else "holds", promise.words)
        yield from (("", "", text) for text in texts)
