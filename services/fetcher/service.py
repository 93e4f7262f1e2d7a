"""The fetcher as others see it: it follows a desired state and tells what it has."""

from libs.common.bus.bus import Bus, Subscription
from libs.common.bus.messages import (
    BucketDigests,
    CachedUnitsListed,
    DesiredReply,
    FetcherHeartbeat,
    ListCachedUnits,
    NodeDesired,
    ReadBucketDigests,
)
from libs.common.bus.subjects import NODE_BUCKET_DIGESTS, NODE_CACHED_UNITS, NODE_DESIRED_FETCHER
from services.fetcher.desired import Desired, Signal
from services.fetcher.fetching.fetches import Fetches
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.ports import ToldCache
from services.fetcher.fetching.rate_meter import RateMeter


class FetcherService:
    def __init__(
        self,
        *,
        node_id: str,
        boot_id: str,
        desired: Desired,
        fetches: Fetches,
        cache: ToldCache,
        governor: NicGovernor,
        meter: RateMeter,
        changed: Signal,
    ) -> None:
        self._node_id, self._boot_id, self._sequence = node_id, boot_id, 0
        self._desired, self._fetches, self._cache = desired, fetches, cache
        self._governor, self._meter, self._changed = governor, meter, changed
        self._pinned_workers: set[str] = set()

    async def listen(self, bus: Bus) -> list[Subscription]:
        """Raises BusError."""
        subscribe, node_id = bus.subscribe, self._node_id
        return [
            await subscribe(NODE_BUCKET_DIGESTS, node_id, self.read_bucket_digests),
            await subscribe(NODE_CACHED_UNITS, node_id, self.list_cached_units),
            await subscribe(NODE_DESIRED_FETCHER, node_id, self.follow),
        ]

    async def follow(self, message: NodeDesired) -> DesiredReply:
        """Handler of the node's desired state; the same state twice changes nothing."""
        reply = self._desired.accept(message)
        if reply.refused is None:
            self._pin_workers(message)
            self._fetches.follow(message.fetches)
            self._changed.notify()
        return reply

    def heartbeat(self) -> FetcherHeartbeat:
        self._sequence += 1
        return FetcherHeartbeat(
            node_id=self._node_id,
            boot_id=self._boot_id,
            sequence=self._sequence,
            accepted_version=self._desired.accepted_version,
            nic_bytes_per_s=self._governor.rate_bytes_per_s,
            measured_bytes_per_s=self._meter.bytes_per_s(),
            cache_capacity_bytes=self._cache.capacity_bytes,
            cache_used_bytes=self._cache.used_bytes,
            cache_max_bytes=self._cache.largest_bytes,
            host_cache=self._cache.complete_units.report(),
            fetches=self._fetches.observed(),
        )

    @property
    def milestones(self) -> object:
        """What somebody may wait for: which version is followed, which fetches have ended."""
        return (self._desired.accepted_version, self._fetches.states)

    def was_sent(self, heartbeat: FetcherHeartbeat) -> None:
        self._fetches.were_told(heartbeat.fetches)
        self._cache.complete_units.was_told(heartbeat.host_cache)

    async def read_bucket_digests(self, message: ReadBucketDigests) -> BucketDigests:
        return self._cache.complete_units.bucket_digests(self._boot_id)

    async def list_cached_units(self, message: ListCachedUnits) -> CachedUnitsListed:
        return self._cache.complete_units.listed(self._boot_id, message)

    def _pin_workers(self, message: NodeDesired) -> None:
        """A desired worker's units stay even while it holds no lease: it may be restarting."""
        wanted = {worker.worker_id: worker.unit_digests for worker in message.workers}
        for worker_id in self._pinned_workers - wanted.keys():
            self._cache.unpin(worker_id)
        for worker_id, digests in wanted.items():
            self._cache.pin(worker_id, digests)
        self._pinned_workers = set(wanted)
