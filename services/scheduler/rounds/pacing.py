"""Spreads work that comes all at once, such as a new leader's words to a thousand nodes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Pace:
    """Lets at most `most` begin together. Whoever takes longer than `patience_s` makes room for the
    next: the slow, who may have died, hold nobody up."""

    def __init__(self, most: int, patience_s: float) -> None:
        self._turns = asyncio.Semaphore(most)
        self._patience_s = patience_s

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for it; first come, first served."""
        await self._turns.acquire()
        is_over = False

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self._turns.release()

        timer = asyncio.get_running_loop().call_later(self._patience_s, end)
        try:
            yield
        finally:
            timer.cancel()
            end()
