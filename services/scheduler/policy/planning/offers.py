"""What a device offers a model, and in what order stages go on those that were chosen. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from libs.common.bus.messages import UnitSummary
from services.scheduler.policy.cluster import Device
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.split import Place
from services.scheduler.policy.prediction.device_shares import (
    LEAST_SHARE,
    NO_NEIGHBOURS,
    DeviceNeighbour,
    DeviceNeighbours,
    expected_share,
)

NOTHING_CACHED: frozenset[str] = frozenset()

EntryRank = tuple[float, float, int, str, int]


@dataclass(eq=False)  # not frozen: making a few for each plan takes long enough to be noticed
class Offer:
    """A device that is looked at closely, as it is for one model. Nobody changes it, and a plan has
    one of each device."""

    node: Node
    device: Device
    cached: frozenset[str]  # digests of the model's units in the node's host cache
    cached_bytes: int  # of its weights
    free_bytes: int  # for weights and KV cache of one worker
    cache_free_bytes: float  # of the host cache: free, or evictable for this model
    rate_bytes_per_s: float  # the node's share of its network for one more fetch
    place: tuple[str, int]  # its node, and its index there
    all_neighbours: DeviceNeighbours = NO_NEIGHBOURS
    # As the split sees it, by how many stages share the node: it is cut again and again.
    _as_places: dict[int, Place] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, node: Node, device: Device, shape: ModelShape) -> "Offer":
        return cls(
            node,
            device,
            cached=shape.deployable.cached.get(node.id, NOTHING_CACHED),
            cached_bytes=shape.cached_bytes(node.id),
            free_bytes=device.room_bytes,
            cache_free_bytes=node.cache_free_bytes,
            rate_bytes_per_s=node.rate_bytes_per_s,
            place=(node.id, device.index),
            all_neighbours=shape.deployable.neighbours,
        )

    @cached_property
    def neighbours(self) -> Sequence[DeviceNeighbour]:
        """Who computes there already."""
        return self.all_neighbours.of(self.node.id, self.device.index)

    def launch_s(self, has_standby: bool) -> float:
        """Until a worker's process there can compute, if its weights are there."""
        return self.node.standby_launch_s if has_standby else self.device.launch_s

    def as_place(self, num_sharing: int, shape: ModelShape) -> Place:
        """`shape`: the one that it was made for."""
        if num_sharing not in self._as_places:
            self._as_places[num_sharing] = _place(self, num_sharing, shape)
        return self._as_places[num_sharing]

    def compute_share(self, planned_bytes: float) -> float:
        """What a worker of that size would get of the device's compute."""
        memory_share = (planned_bytes + self.device.worker_bytes) / self.device.memory_bytes
        share = expected_share(min(1.0, memory_share), self.neighbours) if self.neighbours else 1.0
        return max(LEAST_SHARE, share)

    @property
    def room_bytes(self) -> float:
        """The scarcer of device and host cache."""
        return min(self.free_bytes, self.cache_free_bytes)


def ready_s(fetch_s: float, launch_s: float, tail_s: float = 0.0) -> float:
    """Until a stage can compute, if nothing else is slow: fetch and launch go side by side."""
    return max(fetch_s + tail_s if fetch_s > 0 else 0.0, launch_s)


def by_room(offers: Sequence[Offer]) -> list[Offer]:
    """Those with the most room first; suspect nodes come last."""
    return sorted(offers, key=lambda o: (o.node.is_suspect, -o.room_bytes, *o.place))


def entry_rank(shape: ModelShape) -> Callable[[Offer], EntryRank]:
    """Who suits best as stage 0: it has the ends, or the best network and the most memory."""

    def rank(offer: Offer) -> EntryRank:
        missing_s = _missing(shape.ends, offer) / offer.rate_bytes_per_s
        return (missing_s, -offer.rate_bytes_per_s, -offer.free_bytes, *offer.place)

    return rank


def in_stage_order(
    offers: Sequence[Offer], shape: ModelShape, entries: Sequence[Offer]
) -> list[Offer]:
    """Stage 0 first: of the possible entries the one that has its ends, or the best network and the
    most memory. The others follow the layers that they hold already; who holds none goes where
    nobody holds any."""

    rank = entry_rank(shape)
    first = min(entries, key=rank)
    others = sorted((offer for offer in offers if offer.place != first.place), key=rank)
    return [first, *sorted(others, key=_layer_rank(others, shape))]


def _layer_rank(offers: Sequence[Offer], shape: ModelShape) -> Callable[[Offer], float]:
    layers = {unit.digest: unit.layer or 0 for unit in shape.layers}
    held = {o.place: [layers[d] for d in layers.keys() & o.cached] for o in offers}
    known = {layer for numbers in held.values() for layer in numbers}
    gap = [layer for layer in layers.values() if layer not in known] or [0]

    def rank(offer: Offer) -> float:
        numbers = held[offer.place] or gap
        return sum(numbers) / len(numbers)

    return rank


def as_places(offers: Sequence[Offer], shape: ModelShape) -> list[Place]:
    """As the split sees them; stages on one node share its network and its host cache."""
    sharing = Counter(offer.node.id for offer in offers)
    return [offer.as_place(sharing[offer.node.id], shape) for offer in offers]


def _place(offer: Offer, num_sharing: int, shape: ModelShape) -> Place:
    place = Place(
        free_bytes=offer.free_bytes,
        rate_bytes_per_s=offer.rate_bytes_per_s / num_sharing,
        missing_layer_bytes=_missing_layers(offer, shape),
        missing_end_bytes=_missing(shape.ends, offer),
        tail_s=offer.node.tail_s,
    )
    cache_free_bytes = offer.cache_free_bytes / num_sharing
    if cache_free_bytes >= shape.files_bytes:
        return place  # it could hold the whole model: no limit
    return replace(
        place,
        cache_free_bytes=cache_free_bytes,
        cache_layer_bytes=[files_needed(offer.node, [unit], shape) for unit in shape.layers],
        cache_end_bytes=files_needed(offer.node, shape.ends, shape),
    )


def files_needed(node: Node, units: Sequence[UnitSummary], shape: ModelShape) -> int:
    """Bytes of the host cache that must be free for these units: a worker holds the others."""
    held, sizes = node.held_units, shape.file_sizes
    return sum(sizes[unit.digest] for unit in units if unit.digest not in held)


def _missing_layers(offer: Offer, shape: ModelShape) -> Sequence[int]:
    if not offer.cached:
        return shape.weights.layer_bytes
    return [0 if unit.digest in offer.cached else unit.size_bytes for unit in shape.layers]


def _missing(units: Sequence[UnitSummary], offer: Offer) -> int:
    held = offer.cached
    return sum([unit.size_bytes for unit in units if unit.digest not in held])
