"""How a hollow worker waits for its units: as a real one does at its fetcher's socket."""

import time
from dataclasses import dataclass

from benchmarks.controlplane.hollow.fetching.host_cache import HollowHostCache
from libs.common.errors import UnitsRefused
from libs.common.weights.unitclient import WantedUnits
from services.fetcher.desired import Desired, Signal
from services.fetcher.fetching.fetches import Fetches

LOOK_AGAIN_S = 1.0  # as the real server does, whatever changes


@dataclass(frozen=True)
class UnitSources:
    """Of the fetcher's present boot."""

    desired: Desired
    fetches: Fetches
    changed: Signal  # desired state, files or fetch states are different


class UnitWaiter:
    """Of one node; workers that wait while its fetcher is restarted go on with the next boot."""

    def __init__(self, sources: UnitSources, cache: HollowHostCache) -> None:
        self._sources, self._cache = sources, cache

    def follow(self, sources: UnitSources) -> None:
        """The fetcher was restarted."""
        before, self._sources = self._sources, sources
        before.changed.notify()

    async def until_mapped(self, units: WantedUnits, deadline_s: float) -> None:
        """Until every unit has a file. Raises UnitsRefused.

        `deadline_s` is on time.monotonic().
        """
        while not self._sources.desired.has_units(units.manifest_digest, units.digests):
            message = "the scheduler wants no such units here"
            await self._wait(deadline_s, "not_desired", message)
        while missing := [d for d in units.digests if not self._cache.has_file(d)]:
            if not self._sources.desired.has_units(units.manifest_digest, missing):
                message = "the scheduler does not want these units any more"
                raise UnitsRefused("not_desired", message)
            if (cause := self._sources.fetches.failure_of(missing)) is not None:
                raise UnitsRefused("fetch_failed", cause)
            await self._wait(deadline_s, "deadline", "the units' files were not there in time")

    async def until_complete(self, units: WantedUnits, deadline_s: float) -> None:
        """Until every byte is there. Raises UnitsRefused."""
        while missing := [d for d in units.digests if not self._cache.has_complete(d)]:
            if (cause := self._sources.fetches.failure_of(missing)) is not None:
                raise UnitsRefused("fetch_failed", cause)
            await self._wait(deadline_s, "deadline", "the bytes did not arrive in time")

    def lease(self, worker_id: str, units: WantedUnits) -> None:
        """Its units stay until `end_lease`, as while a process holds their files."""
        self._cache.pin(_owner(worker_id), units.digests)

    def end_lease(self, worker_id: str) -> None:
        self._cache.unpin(_owner(worker_id))

    async def _wait(self, deadline_s: float, code: str, message: str) -> None:
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise UnitsRefused(code, message)
        changed = self._sources.changed
        await changed.wait(changed.version, min(remaining_s, LOOK_AGAIN_S))


def _owner(worker_id: str) -> str:
    return f"lease of {worker_id}"
