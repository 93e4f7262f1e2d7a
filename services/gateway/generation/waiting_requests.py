"""Asks the leading scheduler, every two seconds, for all requests together that wait in its queue.

That is the repetition that cures a lost assignment and a change of the leader. One message for
hundreds of requests: a request that waits costs next to nothing, however many wait with it.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Protocol, cast

from libs.common.bus.bus import Bus
from libs.common.bus.messages import ListWaiting, WaitingListed
from libs.common.bus.subjects import REQUESTS_WAITING
from libs.common.errors import BusError
from services.gateway.settings import Timing

logger = logging.getLogger(__name__)

_MAX_IN_MESSAGE = 512  # which takes a millisecond or two to write and to read


class Waiting(Protocol):
    """Whoever waits with one request."""

    def still_queued(self, position: int) -> None:
        """Behind so many of its model."""

    def not_answered(self) -> None:
        """No leader said anything."""

    def not_queued(self) -> None:
        """Not in this attempt: ask for this request alone."""


@dataclass(frozen=True)
class _Entry:
    attempt: int
    waiting: Waiting


class WaitingRequests:
    """Accepted requests without an endpoint; `run` asks until cancelled."""

    def __init__(self, bus: Bus, gateway_id: str, timing: Timing) -> None:
        self._bus, self._gateway_id, self._timing = bus, gateway_id, timing
        self._entries: dict[str, _Entry] = {}
        self.last_answer_s = -inf  # monotonic: when a scheduler last answered any submission

    def add(self, request_id: str, attempt: int, waiting: Waiting) -> None:
        self._entries[request_id] = _Entry(attempt, waiting)

    def remove(self, request_id: str) -> bool:
        """Whether it was there."""
        return self._entries.pop(request_id, None) is not None

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._timing.repeat_s)
            for asked in list(self._chunks()):
                await self._ask(asked)

    def _chunks(self) -> Iterator[dict[str, _Entry]]:
        entries = iter(list(self._entries.items()))
        while chunk := dict(islice(entries, _MAX_IN_MESSAGE)):
            yield chunk

    async def _ask(self, asked: dict[str, _Entry]) -> None:
        """Nothing is concluded from silence: there will be a leader soon."""
        attempts = {request_id: entry.attempt for request_id, entry in asked.items()}
        message = ListWaiting(gateway_id=self._gateway_id, attempts=attempts)
        try:
            reply = await self._bus.request(
                REQUESTS_WAITING, None, message, timeout_s=self._timing.call_timeout_s
            )
        except BusError as exc:
            logger.info("%d waiting requests were not answered for: %s", len(asked), exc)
            for _, entry in self._still(asked):
                entry.waiting.not_answered()
            return
        positions = cast("WaitingListed", reply).positions
        for request_id, entry in self._still(asked):
            if request_id in positions:
                entry.waiting.still_queued(positions[request_id])
            else:
                entry.waiting.not_queued()

    def _still(self, asked: dict[str, _Entry]) -> list[tuple[str, _Entry]]:
        """Without those that were assigned meanwhile, or have ended."""
        return [(id_, entry) for id_, entry in asked.items() if self._entries.get(id_) is entry]
