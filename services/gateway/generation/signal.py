"""A condition variable for one event loop: wakes everybody who waits for a change."""

import asyncio


class Signal:
    """Check the condition, then `wait`, with no await in between: then no change is missed."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        for waiter in self._waiters:
            _wake(waiter)

    async def wait(self, timeout_s: float) -> None:
        """Returns at the next `notify`, and at the latest after `timeout_s`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(max(0.0, timeout_s), _wake, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
