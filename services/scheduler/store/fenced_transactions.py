"""Transactions that only the leader of one epoch can commit, one at a time in each lane."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.database import Database
from libs.common.records.tables import LeadershipRow
from services.scheduler.errors import LeadershipLost

_PING = text("SELECT 1")
_EPOCH = select(LeadershipRow.epoch).where(LeadershipRow.id == 1).with_for_update(read=True)


async def ping(session: AsyncSession) -> None:
    """Of a transaction in which nothing is asked for long: Postgres ends idle ones."""
    await session.execute(_PING)


class Lane(StrEnum):
    """A kind of transaction, of which one runs at a time: each sees what the one before it wrote.

    The first two meet only in rows of single requests, which both lock; the third in none that
    still matters.
    """

    DECISIONS = "decisions"  # rounds, imports
    SUBMISSIONS = "submissions"  # answers to gateways, which must not wait for a round
    HISTORY = "history"  # deletes what ended long ago, for which nobody must wait


class FencedTransactions:
    """Opens transactions that fail unless this scheduler's epoch is still the latest."""

    def __init__(self, database: Database, epoch: int) -> None:
        self.epoch = epoch
        self.lost = asyncio.Event()
        self._database = database
        self._turns = {lane: asyncio.Lock() for lane in Lane}

    @asynccontextmanager
    async def transaction(self, lane: Lane = Lane.DECISIONS) -> AsyncIterator[AsyncSession]:
        """Raises LeadershipLost before the block when a newer leader exists, and
        DatabaseUnavailable; whether the commit took place is then unknown."""
        async with self._turns[lane], self._database.transaction() as session:
            await self._check_epoch(session)
            yield session

    async def _check_epoch(self, session: AsyncSession) -> None:
        # FOR SHARE: the next leader's increment waits until this transaction has ended.
        found = await session.scalar(_EPOCH)
        if found != self.epoch:
            self.lost.set()
            raise LeadershipLost(self.epoch, f"the database is at epoch {found}")
