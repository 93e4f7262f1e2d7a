"""Waiting for a condition with a deadline: the only way tests wait."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def eventually(
    condition: Callable[[], object | Awaitable[object]],
    *,
    timeout_s: float = 10.0,
    poll_s: float = 0.01,
    what: str = "the condition",
) -> object:
    """The condition's first truthy value. Fails with `what` when it stays false."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not become true within {timeout_s:g} s")
        await asyncio.sleep(poll_s)
