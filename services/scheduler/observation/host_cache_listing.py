"""What a fetcher answers when its host cache is compared, checked before anything is done by it."""

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    BucketDigests,
    CachedUnitsListed,
    ListCachedUnits,
    ReadBucketDigests,
)
from libs.common.bus.subjects import NODE_BUCKET_DIGESTS, NODE_CACHED_UNITS
from libs.common.weights.unit_set_digest import bucket_of
from services.scheduler.errors import HostCacheNotCompared
from services.scheduler.observation.heartbeat_limits import MAX_UNITS
from services.scheduler.policy.nodes.cached_units import UnitsChanged

ANSWER_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Part:
    """How rows differ from a listing, up to a unit."""

    end: str | None  # the last unit that was looked at; None: all that follow were
    change: UnitsChanged  # of the rows, to be as the listing


@dataclass(frozen=True)
class Listing:
    """All units of some buckets behind `after` and up to `up_to`, as of a version of the set."""

    boot_id: str
    version: int
    buckets: frozenset[int]
    after: str | None
    up_to: str | None  # None: to the end
    units: tuple[str, ...]  # in order

    def part(self, after: str | None, recorded: Sequence[str], limit: int) -> Part:
        """The next ones; `recorded` are the first rows behind `after`, at most `limit`."""
        first = 0 if after is None else bisect_right(self.units, after)
        told = self.units[first : first + limit]
        ends = [units[-1] for units in (told, recorded) if len(units) == limit]
        end = min(ends, default=self.up_to)
        listed = {unit for unit in told if end is None or unit <= end}
        held = {unit for unit in recorded if end is None or unit <= end}
        return Part(end, UnitsChanged(frozenset(listed - held), frozenset(held - listed)))


async def ask_bucket_digests(bus: Bus, node_id: str) -> BucketDigests:
    """Raises BusError."""
    reply = await bus.request(
        NODE_BUCKET_DIGESTS, node_id, ReadBucketDigests(), timeout_s=ANSWER_TIMEOUT_S
    )
    assert isinstance(reply, BucketDigests)
    return reply


async def list_units(bus: Bus, node_id: str, buckets: frozenset[int]) -> AsyncIterator[Listing]:
    """One answer after the other, until all is told. Raises BusError, HostCacheNotCompared."""
    after, num_units = None, 0
    while True:
        asked = ListCachedUnits(buckets=tuple(sorted(buckets)), after=after)
        reply = await bus.request(NODE_CACHED_UNITS, node_id, asked, timeout_s=ANSWER_TIMEOUT_S)
        assert isinstance(reply, CachedUnitsListed)
        num_units += len(reply.units)
        if (fault := fault_of(asked, reply)) or num_units > MAX_UNITS:
            raise HostCacheNotCompared(node_id, fault or f"it lists more than {MAX_UNITS} units")
        up_to = None if reply.is_last else reply.units[-1]
        yield Listing(reply.boot_id, reply.version, buckets, after, up_to, reply.units)
        if up_to is None:
            return
        after = up_to


def fault_of(asked: ListCachedUnits, reply: CachedUnitsListed) -> str | None:
    """What makes the answer useless; None for one that can be true."""
    units = reply.units
    if not units and not reply.is_last:
        return "it lists nothing and says that more follows"
    if any(later <= unit for unit, later in pairwise(units)):
        return "what it lists is not in order"
    if units and asked.after is not None and units[0] <= asked.after:
        return "it lists again what it has listed"
    if not {bucket_of(unit) for unit in units} <= set(asked.buckets):
        return "it lists what it was not asked for"
    return None
