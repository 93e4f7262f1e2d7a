"""Lets tasks go on one after the other, each in passes of the event loop of its own."""

import asyncio


class Turns:
    """A client that closes thousands of streams at once ends thousands of tasks in one pass of the
    loop, which takes seconds, and nobody else's comes before: they end in turn."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Returns when it is the caller's turn; the next one's is a pass later."""
        async with self._lock:
            await asyncio.sleep(0)
