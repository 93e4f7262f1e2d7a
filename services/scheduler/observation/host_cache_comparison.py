"""Compares the rows of a node's host cache with what its fetcher has, in the background: digests of
256 parts first, then what is in those that differ. Rounds go on between two small transactions."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import reduce

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.bus import Bus
from libs.common.clock import Clock
from libs.common.errors import BusError, DatabaseUnavailable
from libs.common.records.database import Database
from libs.common.weights.unit_set_digest import NUM_BUCKETS, bucket_of
from services.scheduler.errors import HostCacheNotCompared, LeadershipLost
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.host_cache_listing import (
    Listing,
    Part,
    ask_bucket_digests,
    list_units,
)
from services.scheduler.observation.host_cache_records import HostCacheChanges, HostCacheRecords
from services.scheduler.policy.liveness import fetcher_of
from services.scheduler.policy.nodes.cached_units import UnitsChanged
from services.scheduler.store import host_cache
from services.scheduler.store.fenced_transactions import FencedTransactions
from services.scheduler.store.host_cache import RecordedSet

logger = logging.getLogger(__name__)

MAX_AT_ONCE = 2  # nodes
MAX_PART = 512  # rows in one transaction, for which a round may have to wait
READ_ROWS = 4096  # at once; between two reads the process does other things
MAX_SILENCE_S = 3.0  # of a fetcher that is asked
FIRST_DELAY_S, MAX_DELAY_S = 0.5, 60.0  # before a node is compared again


@dataclass(frozen=True)
class _Retry:
    due_at_s: float
    delay_s: float


@dataclass(frozen=True)
class _Rows:
    """A node's rows at one moment, and what its own row then said they were together."""

    recorded: RecordedSet
    buckets: tuple[RecordedSet, ...]

    @property
    def lacking(self) -> RecordedSet:
        """What the node's own row does not know of."""
        return reduce(RecordedSet.plus, self.buckets).minus(self.recorded)


@dataclass
class HostCacheComparison:
    """`tell` is called with what was changed, by node, and with None when that is not known."""

    bus: Bus
    database: Database
    fenced: FencedTransactions
    log: HeartbeatLog
    records: HostCacheRecords
    clock: Clock
    tell: Callable[[Mapping[str, UnitsChanged] | None], None]
    _retries: dict[str, _Retry] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)  # connections are few

    async def work(self) -> None:
        """Compare the nodes that differ. Raises DatabaseUnavailable, LeadershipLost."""
        due = self._due()
        turns = (self._compare_all(due[i::MAX_AT_ONCE]) for i in range(MAX_AT_ONCE))
        for outcome in await asyncio.gather(*turns, return_exceptions=True):
            if outcome is not None:
                raise outcome

    def _due(self) -> list[str]:
        """Those whose fetchers can be asked; others may yet come back."""
        now_s, differing = self.clock.monotonic_s(), self.records.differing
        self._retries = {id_: retry for id_, retry in self._retries.items() if id_ in differing}
        return sorted(
            id_
            for id_ in differing
            if (id_ not in self._retries or self._retries[id_].due_at_s <= now_s)
            and self.log.fetchers.of(id_) is not None
            and self.log.liveness.silence_s(fetcher_of(id_)) <= MAX_SILENCE_S
        )

    async def _compare_all(self, node_ids: Iterable[str]) -> None:
        for node_id in node_ids:
            await self._compare(node_id)

    async def _compare(self, node_id: str) -> None:
        """What is wrong with one node's answers or rows costs that node alone."""
        try:
            await self._bring_together(node_id)
        except (LeadershipLost, DatabaseUnavailable):
            raise
        except (BusError, HostCacheNotCompared) as exc:
            logger.warning("the host cache of %s was not compared: %s", node_id, exc)
        except Exception:
            logger.exception("the host cache of %s was not compared", node_id)
        finally:
            self._plan_retry(node_id)
        heard = self.log.fetchers.of(node_id)
        if heard is not None:
            self.records.note(heard.heartbeat)

    def _plan_retry(self, node_id: str) -> None:
        """Of a node that still differs, because it has changed meanwhile or lies."""
        before = self._retries.get(node_id)
        delay_s = FIRST_DELAY_S if before is None else min(2 * before.delay_s, MAX_DELAY_S)
        self._retries[node_id] = _Retry(self.clock.monotonic_s() + delay_s, delay_s)

    async def _bring_together(self, node_id: str) -> None:
        told = await ask_bucket_digests(self.bus, node_id)
        rows = await self._read(node_id)
        if rows.lacking != RecordedSet():
            async with self._writing() as (session, done):
                done.merge(await self.records.correct_set(session, node_id, rows.lacking))
        recorded = [str(bucket.digest) for bucket in rows.buckets]
        pairs = enumerate(zip(told.set_digests, recorded, strict=True))
        differing = frozenset(i for i, (there, here) in pairs if there != here)
        if differing:
            async for listing in list_units(self.bus, node_id, differing):
                await self._correct(node_id, listing)

    async def _read(self, node_id: str) -> _Rows:
        buckets = [RecordedSet()] * NUM_BUCKETS
        async with self._reading, self.database.transaction() as session:
            await host_cache.read_one_snapshot(session)
            recorded = (await host_cache.load_sets(session, [node_id])).get(node_id)
            after: str | None = None
            while units := await host_cache.units_of(
                session, node_id, after=after, up_to=None, limit=READ_ROWS
            ):
                for bucket, own in _by_bucket(units).items():
                    buckets[bucket] = buckets[bucket].changed(UnitsChanged(frozenset(own)))
                after = units[-1]
        if recorded is None:
            raise HostCacheNotCompared(node_id, "its row is gone")
        return _Rows(recorded, tuple(buckets))

    async def _correct(self, node_id: str, listing: Listing) -> None:
        """Make rows as they are listed, in parts that hold up no round."""
        after = listing.after
        while True:
            part = await self._correct_part(node_id, listing, after)
            if part.end == listing.up_to:
                return
            after = part.end

    async def _correct_part(self, node_id: str, listing: Listing, after: str | None) -> Part:
        async with self._writing() as (session, done):
            rows = await host_cache.units_of(
                *(session, node_id),
                after=after,
                up_to=listing.up_to,
                buckets=listing.buckets,
                limit=MAX_PART,
            )
            part = listing.part(after, rows, MAX_PART)
            change = self._without_news(node_id, listing, part.change)
            done.merge(await self.records.correct(session, node_id, change))
        return part

    def _without_news(self, node_id: str, listing: Listing, change: UnitsChanged) -> UnitsChanged:
        """Without units that the node has told of since it listed: a round has written or will
        write what it told. Raises HostCacheNotCompared if there may be others."""
        heard = self.log.fetchers.of(node_id)
        if heard is None or heard.heartbeat.boot_id != listing.boot_id:
            raise HostCacheNotCompared(node_id, "its fetcher was started again")
        report = heard.heartbeat.host_cache
        if report.since_version > listing.version:
            raise HostCacheNotCompared(node_id, "it has changed too much meanwhile")
        told = {*report.added, *report.removed}
        return UnitsChanged(change.added - told, change.removed - told)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[tuple[AsyncSession, HostCacheChanges]]:
        """A transaction, and what it has changed, for the snapshot after the commit."""
        done = HostCacheChanges()
        try:
            async with self.fenced.transaction() as session:
                yield session, done
        except BaseException:
            self.tell(None)  # whether it committed is not known
            raise
        for remember in done.after_commit:
            remember()
        self.tell(done.by_node)


def _by_bucket(units: Iterable[str]) -> dict[int, list[str]]:
    found: defaultdict[int, list[str]] = defaultdict(list)
    for unit in units:
        found[bucket_of(unit)].append(unit)
    return found
