"""Notices that a client has disconnected, and closes the connection of one that does not read.

ASGI tells of a disconnect through `receive`, once the body was read. It has no way to close a
connection, so our own connections bring one in the request's state.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from services.gateway.errors import ClientGone

CLOSE_CONNECTION = "close_connection"  # a key of a request's state: its connection's `close_now`

_Result = TypeVar("_Result")


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def run_while_connected(receive: Receive, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is cancelled when the client goes. Raises ClientGone."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(wait_for_disconnect(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await cancel_and_wait(working, watching)


def close_connection(scope: Scope) -> None:
    """End the request's connection at once."""
    close_now = scope["state"].get(CLOSE_CONNECTION)
    if close_now is not None:  # only our own server brings one
        close_now()


async def cancel_and_wait(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel, wait until they ended, and leave no exception unseen."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
