"""What fetches are made with: the real parts, or the hollow ones of a simulated node."""

from collections.abc import Iterable
from typing import Protocol

from libs.common.bus.messages import (
    BucketDigests,
    CachedUnitsListed,
    HostCacheReport,
    ListCachedUnits,
)
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitwriter import UnitWriter
from services.fetcher.fetching.chunk_schedule import Fetch
from services.fetcher.fetching.manifests import LoadedManifest


class ManifestSource(Protocol):
    async def load(self, digest: str) -> LoadedManifest:
        """Raises FetchFailed, ManifestError, ObjectStoreError."""


class UnitTransfer(Protocol):
    async def run(self, fetch: Fetch) -> None:
        """Bring everything the fetch wants. Raises FetchFailed, or FetchCancelled after cancel."""


class UnitCache(Protocol):
    """The methods of HostCache that fetches use; they are described there."""

    def pin(self, owner: str, digests: Iterable[str]) -> None: ...

    def unpin(self, owner: str) -> None: ...

    async def make_room(self, units: Iterable[UnitEntry]) -> None: ...

    async def open(self, unit: UnitEntry) -> UnitWriter: ...

    def release(self, digests: Iterable[str]) -> None: ...


class ToldUnits(Protocol):
    """The methods of CompleteUnits that are for the scheduler; they are described there."""

    def report(self) -> HostCacheReport: ...

    def was_told(self, report: HostCacheReport) -> None: ...

    def bucket_digests(self, boot_id: str) -> BucketDigests: ...

    def listed(self, boot_id: str, asked: ListCachedUnits) -> CachedUnitsListed: ...


class ToldCache(UnitCache, Protocol):
    """What heartbeats say of it, besides."""

    @property
    def capacity_bytes(self) -> int: ...

    @property
    def used_bytes(self) -> int: ...

    @property
    def largest_bytes(self) -> int: ...

    @property
    def complete_units(self) -> ToldUnits: ...
