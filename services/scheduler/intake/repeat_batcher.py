"""Gateways ask every two seconds for each request that waits. Those that come while the database is
busy are answered together, by one statement."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.common.bus.messages import SubmitRequest
from services.scheduler.store import queue
from services.scheduler.store.fenced_transactions import FencedTransactions, Lane

MAX_KNOWN = 65_536  # older ones are answered one by one


@dataclass
class _Batch:
    request_ids: set[str] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    places: Mapping[str, int] | None = None


@dataclass
class RepeatBatcher:
    fenced: FencedTransactions
    _attempts: OrderedDict[str, int] = field(default_factory=OrderedDict)  # of requests, accepted
    _open: _Batch = field(default_factory=_Batch)

    def remember(self, message: SubmitRequest) -> None:
        """It was accepted; its gateway may ask again."""
        self._attempts[message.request_id] = message.attempt
        if len(self._attempts) > MAX_KNOWN:
            self._attempts.popitem(last=False)

    async def place(self, message: SubmitRequest) -> int | None:
        """How many wait before it; None when it is not known to wait in this attempt.

        Raises DatabaseUnavailable, LeadershipLost.
        """
        if self._attempts.get(message.request_id) != message.attempt:
            return None
        batch = self._open
        batch.request_ids.add(message.request_id)
        async with batch.turn:
            if batch.places is None:
                batch.places = await self._answer(batch)
        place = batch.places.get(message.request_id)
        if place is None:
            self._attempts.pop(message.request_id, None)
        return place

    async def _answer(self, batch: _Batch) -> Mapping[str, int]:
        async with self.fenced.transaction(Lane.SUBMISSIONS) as session:
            self._open = _Batch()  # for whoever comes from now on
            return await queue.load_queue_positions(session, batch.request_ids)
