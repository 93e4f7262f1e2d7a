"""Decides when a heartbeat is due before its time. For one event loop."""

import asyncio
from contextlib import suppress

LOAD_INTERVAL_S = 0.25


class HeartbeatTrigger:
    """Sets off heartbeats: at once for what somebody waits for, a few times a second for load and
    for steps of a start: each heartbeat of a thousand nodes is work for the leader.

    Load that changes after a while of rest is told at once too.
    """

    def __init__(self, load_interval_s: float = LOAD_INTERVAL_S) -> None:
        self._load_interval_s = load_interval_s
        self._noted, self._urgent = asyncio.Event(), asyncio.Event()
        self._next_load_at_s = 0.0  # on the loop's clock

    def note(self) -> None:
        """Something has changed that a decision may wait for."""
        self._urgent.set()
        self._noted.set()

    def note_load(self) -> None:
        """A request has come or ended, or a step of a start has."""
        self._noted.set()

    def clear(self) -> None:
        """What has been noted is about to be told."""
        self._urgent.clear()
        self._noted.clear()

    async def wait(self) -> None:
        """Until what was noted is to be told."""
        await self._noted.wait()
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._next_load_at_s):
                await self._urgent.wait()
        if not self._urgent.is_set():
            self._next_load_at_s = loop.time() + self._load_interval_s
