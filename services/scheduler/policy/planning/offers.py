"""What every device of the cluster can offer a model, and which of them to look at closer. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import nsmallest
from math import inf
from typing import NamedTuple

from libs.common.bus.messages import ModelSummary, UnitSummary
from services.scheduler.policy.cluster import Cluster, Deployable, Device, Node
from services.scheduler.policy.planning.memory import file_bytes, files_bytes
from services.scheduler.policy.planning.split import Place

SAME_S = 0.05  # what ends within this time of each other ends at the same time
UNCAPPED_BYTES_PER_S = 1.25e9  # assumed of a NIC without a configured cap: 10 Gbit/s
NOTHING_CACHED: frozenset[str] = frozenset()


class Offer(NamedTuple):
    """A tuple, because a thousand of them are made for each decision."""

    node: Node
    device: Device
    free_bytes: int  # for weights and KV cache of one worker
    rate_bytes_per_s: float  # the node's share of its network for one more fetch
    cached: frozenset[str]  # digests of the model's units in the node's host cache
    cached_bytes: int  # of its weights
    cache_free_bytes: float  # of the host cache: free, or evictable for this model
    room_bytes: float  # the scarcer of the two


Rank = tuple[bool, int, bool, float, float, str, int]
Room = Callable[[Offer], float]


def scarcest_room(offer: Offer) -> float:
    return offer.room_bytes


def device_room(offer: Offer) -> float:
    return offer.free_bytes


def cache_room(offer: Offer) -> float:
    return offer.cache_free_bytes


def ready_s(fetch_s: float, launch_s: float) -> float:
    """Until a stage can compute, if nothing else is slow: fetch and launch go side by side.

    `launch_s` is 0 where a process has imported everything already.
    """
    return max(fetch_s, launch_s)


def survey(cluster: Cluster, deployable: Deployable) -> list[Offer]:
    """One offer per device that computes the model's type and has room for a process."""
    summary = deployable.summary
    sizes = {unit.digest: unit.size_bytes for unit in summary.units}
    offers = []
    for node in cluster.nodes:
        rate = (node.nic_bytes_per_s or UNCAPPED_BYTES_PER_S) / (node.num_fetches + 1)
        cached = deployable.cached.get(node.id, NOTHING_CACHED)
        cached_bytes = sum(sizes[digest] for digest in cached)
        cache_free = inf if node.cache_bytes is None else node.cache_bytes - node.held_bytes
        for device in node.devices:
            free = device.room_bytes
            if free <= 0 or not device.computes(summary.dtype):
                continue
            room = free if free < cache_free else cache_free
            offers.append(Offer(node, device, free, rate, cached, cached_bytes, cache_free, room))
    return offers


def best_per_node(offers: Sequence[Offer]) -> list[Offer]:
    """Each node's emptiest device."""
    best: dict[str, Offer] = {}
    for offer in offers:
        known = best.get(offer.node.id)
        if known is None or offer.free_bytes > known.free_bytes:
            best[offer.node.id] = offer
    return list(best.values())


def soonest(offers: Sequence[Offer], count: int, share_bytes: float) -> list[Offer]:
    """Where a stage of that many bytes would be ready first; suspect nodes come last.

    Among equals those that need no import, then those that have the bytes first, then the emptiest
    devices, so that neighbours disturb each other least.
    """

    def rank(offer: Offer) -> Rank:
        fetch_s = max(0.0, share_bytes - offer.cached_bytes) / offer.rate_bytes_per_s
        has_standby = offer.node.num_standbys > 0
        device = offer.device
        launch_s = 0.0 if has_standby else device.launch_s
        return (
            offer.node.is_suspect,
            round(ready_s(fetch_s, launch_s) / SAME_S),
            not has_standby,
            fetch_s,
            -offer.room_bytes,
            device.node_id,
            device.index,
        )

    return nsmallest(count, offers, key=rank)


def roomiest(offers: Sequence[Offer], count: int, room: Room) -> list[Offer]:
    """Those with the most room; suspect nodes come last."""

    def rank(offer: Offer) -> tuple[bool, float, str, int]:
        device = offer.device
        return (offer.node.is_suspect, -room(offer), device.node_id, device.index)

    return nsmallest(count, offers, key=rank)


def in_stage_order(offers: Sequence[Offer], summary: ModelSummary) -> list[Offer]:
    """Stage 0 first: who has its ends, or the best network and the most memory. The others follow
    the layers that they hold already; who holds none goes where nobody holds any."""
    ends = [unit for unit in summary.units if unit.layer is None]

    def end_rank(offer: Offer) -> tuple[float, float, int, str, int]:
        missing_s = _missing(ends, offer) / offer.rate_bytes_per_s
        device = offer.device
        return (
            missing_s,
            -offer.rate_bytes_per_s,
            -offer.free_bytes,
            device.node_id,
            device.index,
        )

    first, *others = sorted(offers, key=end_rank)
    return [first, *sorted(others, key=_layer_rank(others, summary))]


def _layer_rank(offers: Sequence[Offer], summary: ModelSummary) -> Callable[[Offer], float]:
    layers = {u.digest: u.layer for u in summary.units if u.layer is not None}
    held = {id(o): [layers[d] for d in layers.keys() & o.cached] for o in offers}
    known = {layer for numbers in held.values() for layer in numbers}
    gap = [layer for layer in layers.values() if layer not in known] or [0]

    def rank(offer: Offer) -> float:
        numbers = held[id(offer)] or gap
        return sum(numbers) / len(numbers)

    return rank


def as_places(offers: Sequence[Offer], summary: ModelSummary) -> list[Place]:
    """As the split sees them; stages on one node share its network and its host cache."""
    sharing = Counter(offer.node.id for offer in offers)
    layers = sorted_layers(summary)
    ends = [unit for unit in summary.units if unit.layer is None]
    files = files_bytes(summary)
    return [_place(offer, sharing[offer.node.id], layers, ends, files) for offer in offers]


def _place(
    offer: Offer, num_sharing: int, layers: list[UnitSummary], ends: list[UnitSummary], files: int
) -> Place:
    place = Place(
        free_bytes=offer.free_bytes,
        rate_bytes_per_s=offer.rate_bytes_per_s / num_sharing,
        missing_layer_bytes=_missing_layers(layers, offer.cached),
        missing_end_bytes=_missing(ends, offer),
    )
    cache_free_bytes = offer.cache_free_bytes / num_sharing
    if cache_free_bytes >= files:
        return place  # it could hold the whole model: no limit
    return replace(
        place,
        cache_free_bytes=cache_free_bytes,
        cache_layer_bytes=[files_needed(offer, [unit]) for unit in layers],
        cache_end_bytes=files_needed(offer, ends),
    )


def files_needed(offer: Offer, units: Sequence[UnitSummary]) -> int:
    """Bytes of the host cache that must be free for these units: a worker holds the others."""
    held = offer.node.held_units
    return sum(file_bytes(unit) for unit in units if unit.digest not in held)


def _missing_layers(layers: Sequence[UnitSummary], cached: frozenset[str]) -> list[int]:
    return [0 if unit.digest in cached else unit.size_bytes for unit in layers]


def sorted_layers(summary: ModelSummary) -> list[UnitSummary]:
    layers = [unit for unit in summary.units if unit.layer is not None]
    return sorted(layers, key=lambda unit: unit.layer or 0)


def _missing(units: Sequence[UnitSummary], offer: Offer) -> int:
    return sum(unit.size_bytes for unit in units if unit.digest not in offer.cached)
