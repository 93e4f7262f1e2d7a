"""Long computations beside the event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

KEEP_ALIVE_S = 0.5

Result = TypeVar("Result")


async def compute_aside(
    compute: Callable[[], Result],
    keep_alive: Callable[[], Awaitable[None]],
    interval_s: float = KEEP_ALIVE_S,
) -> Result:
    """What `compute` returns, which runs in a thread and shares nothing that others change.
    `keep_alive` is called again and again meanwhile. Raises what either raises."""
    computing = asyncio.ensure_future(asyncio.to_thread(compute))
    while not computing.done():
        await asyncio.wait({computing}, timeout=interval_s)
        if not computing.done():
            await keep_alive()
    return computing.result()
