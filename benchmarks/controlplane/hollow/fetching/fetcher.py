"""The fetcher of one hollow node: the real service and fetches over hollow parts."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.controlplane.hollow.fetching.host_cache import HollowHostCache
from benchmarks.controlplane.hollow.fetching.initial_units import InitialUnits
from benchmarks.controlplane.hollow.fetching.nic import SimulatedNic
from benchmarks.controlplane.hollow.fetching.transfer import HollowTransfer
from benchmarks.controlplane.hollow.fetching.unit_waiter import UnitSources
from benchmarks.controlplane.hollow.settings import HollowSettings
from libs.common.clock import SystemClock
from libs.common.ids import new_id
from services.fetcher.desired import Desired, Signal
from services.fetcher.fetching.fetches import Fetches, FetchParts
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.ports import ManifestSource
from services.fetcher.fetching.rate_meter import RateMeter
from services.fetcher.service import FetcherService

ROOM_PATIENCE_S = 10.0  # as a real fetcher without a setting


@dataclass(frozen=True)
class HollowFetcher:
    """The parts of one boot that others use."""

    service: FetcherService
    sources: UnitSources


def initial_cache(
    settings: HollowSettings, node_id: str, number_of_unit: Callable[[str], int | None]
) -> HollowHostCache:
    """Outlives the boots of its node, as unit files do."""
    numbers = settings.catalogue.cached_models(node_id, settings.cached_units)
    return HollowHostCache(settings.cache_bytes, InitialUnits(numbers, number_of_unit))


def build_fetcher(
    settings: HollowSettings, node_id: str, cache: HollowHostCache, manifests: ManifestSource
) -> HollowFetcher:
    changed, meter, desired = Signal(), RateMeter(time.monotonic), Desired(node_id)
    chance = settings.chance(node_id, "first bytes")
    governor = NicGovernor(settings.nic_bytes_per_s)
    transfer = HollowTransfer(
        SimulatedNic(settings.nic_bytes_per_s), meter, lambda: settings.first_byte.drawn_s(chance)
    )
    parts = FetchParts(manifests, cache, transfer, governor, SystemClock(), ROOM_PATIENCE_S)
    fetches = Fetches(parts, on_change=changed.notify)
    service = FetcherService(
        node_id=node_id,
        boot_id=new_id("boot"),
        desired=desired,
        fetches=fetches,
        cache=cache,
        governor=governor,
        meter=meter,
        changed=changed,
    )
    return HollowFetcher(service, UnitSources(desired, fetches, changed))
