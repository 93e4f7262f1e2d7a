"""Noticing that a client has gone: ASGI tells it through `receive`, once the body was read.

And sending one away that does not read: for that ASGI has no word, so the connection brings one.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from services.gateway.errors import ClientGone

HANG_UP = "hang_up"  # in a request's state: closes its connection, whatever is unsent

_Result = TypeVar("_Result")


async def until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is cancelled when the client goes. Raises ClientGone."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(until_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await cancelled(working, watching)


def hang_up(scope: Scope) -> None:
    """End the request's connection at once."""
    end = scope["state"].get(HANG_UP)
    if end is not None:  # only our own server brings one
        end()


async def cancelled(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel, wait until they ended, and leave no exception unseen."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
