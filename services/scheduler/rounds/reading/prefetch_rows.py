"""Rows about models that may be asked soon, to the snapshot."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.policy.prefetching.prefetch import Prefetch, prefetch_table
from services.scheduler.policy.prefetching.prefetch_effects import without_old_looks
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.table import Table
from services.scheduler.store.fetching import prefetches


async def load_prefetches(session: AsyncSession, now_s: float) -> Table[Prefetch]:
    """Those that this leader, or one before it, has begun: rounds alone write them."""
    return prefetch_table(await prefetches.load_open(session, now_s))


async def read_prefetchable(session: AsyncSession, snapshot: Snapshot) -> Snapshot:
    """In a sweep: whose weights may be prefetched, or are."""
    expected = await prefetches.load_expected(session)
    known = frozenset(snapshot.prefetches.keys_of("model"))
    return without_old_looks(snapshot).changed(prefetchable=expected | known)
