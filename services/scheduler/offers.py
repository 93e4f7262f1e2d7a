"""What every device of the cluster can offer a model, and which of them to look at closer. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import nsmallest
from typing import NamedTuple

from libs.common.messages import ModelSummary, UnitSummary
from services.scheduler.cluster import Cluster, Device, Node
from services.scheduler.split import Place

UNCAPPED_BYTES_PER_S = 1.25e9  # assumed of a NIC without a configured cap: 10 Gbit/s


class Offer(NamedTuple):
    """A tuple, because a thousand of them are made for each decision."""

    node: Node
    device: Device
    free_bytes: int
    rate_bytes_per_s: float  # the node's share of its network for one more fetch
    cached_bytes: int  # of the model's weights, in the node's host cache


Rank = tuple[bool, float, int, str, int]


def survey(cluster: Cluster, summary: ModelSummary) -> list[Offer]:
    """One offer per device."""
    sizes = {unit.digest: unit.size_bytes for unit in summary.units}
    digests = frozenset(sizes)
    offers = []
    for node in cluster.nodes:
        rate = (node.nic_bytes_per_s or UNCAPPED_BYTES_PER_S) / (node.num_fetches + 1)
        cached = 0
        if node.cached_units and not digests.isdisjoint(node.cached_units):
            cached = sum(sizes[digest] for digest in digests & node.cached_units)
        for device in node.devices:
            offers.append(Offer(node, device, device.free_bytes, rate, cached))
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
    """Where a fetch of that many bytes would end first; suspect nodes come last.

    Among equals the emptiest devices, so that neighbours disturb each other least.
    """

    def rank(offer: Offer) -> Rank:
        fetch_s = max(0.0, share_bytes - offer.cached_bytes) / offer.rate_bytes_per_s
        device = offer.device
        return (
            offer.node.is_suspect,
            fetch_s,
            -offer.free_bytes,
            device.node_id,
            device.index,
        )

    return nsmallest(count, offers, key=rank)


def roomiest(offers: Sequence[Offer], count: int) -> list[Offer]:
    """The emptiest devices; suspect nodes come last."""

    def rank(offer: Offer) -> tuple[bool, int, str, int]:
        device = offer.device
        return (offer.node.is_suspect, -offer.free_bytes, device.node_id, device.index)

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
    held = {id(o): [layers[d] for d in layers.keys() & o.node.cached_units] for o in offers}
    known = {layer for numbers in held.values() for layer in numbers}
    gap = [layer for layer in layers.values() if layer not in known] or [0]

    def rank(offer: Offer) -> float:
        numbers = held[id(offer)] or gap
        return sum(numbers) / len(numbers)

    return rank


def as_places(offers: Sequence[Offer], summary: ModelSummary) -> list[Place]:
    """As the split sees them; stages on one node share its network."""
    sharing = Counter(offer.node.id for offer in offers)
    layers = [(unit.digest, unit.size_bytes) for unit in sorted_layers(summary)]
    ends = [unit for unit in summary.units if unit.layer is None]
    return [
        Place(
            free_bytes=offer.free_bytes,
            rate_bytes_per_s=offer.rate_bytes_per_s / sharing[offer.node.id],
            missing_layer_bytes=_missing_layers(layers, offer.node.cached_units),
            missing_end_bytes=_missing(ends, offer),
        )
        for offer in offers
    ]


def _missing_layers(layers: list[tuple[str, int]], cached: frozenset[str]) -> list[int]:
    return [0 if digest in cached else size for digest, size in layers]


def sorted_layers(summary: ModelSummary) -> list[UnitSummary]:
    layers = [unit for unit in summary.units if unit.layer is not None]
    return sorted(layers, key=lambda unit: unit.layer or 0)


def _missing(units: Sequence[UnitSummary], offer: Offer) -> int:
    cached = offer.node.cached_units
    return sum(unit.size_bytes for unit in units if unit.digest not in cached)
