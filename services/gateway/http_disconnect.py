"""Noticing that a client has gone: ASGI tells it through `receive`, once the body was read."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from services.gateway.errors import ClientGone

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


async def cancelled(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel, wait until they ended, and leave no exception unseen."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
