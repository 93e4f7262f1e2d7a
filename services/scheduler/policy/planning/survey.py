"""Which devices of the whole cluster suit a model best: columns in, a few offers out. Pure.

A device is named by its place in the cluster's layout. Ranks are compared key by key, and equal
devices in the order of their places, so that the same cluster always gives the same plan.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.columns import Bools, Floats, Ints, kind_of
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer, files_needed

SAME_S = 0.05  # what ends within this time of each other ends at the same time

# Added to a rank, which is a number of `SAME_S`: more than any time.
_SUSPICION = 2.0**50

Key = Callable[[Ints], Floats]  # of places; the smallest is first


class Room(Enum):
    SCARCEST = auto()  # the lesser of the other two
    DEVICE = auto()
    CACHE = auto()  # of the node's host cache


@dataclass(frozen=True, eq=False)
class Survey:
    cluster: Cluster
    shape: ModelShape
    _offers: dict[int, Offer] = field(default_factory=dict)  # that were made, by place

    @cached_property
    def all_places(self) -> Ints:
        """Of devices that compute the model's type and have room for a process."""
        return np.flatnonzero(self.cluster.rooms_for(self.shape.deployable.summary.dtype))

    @cached_property
    def trusted_places(self) -> Ints:
        """Not of nodes on which the model failed lately."""
        places = self.all_places
        return places[~self._is_suspect[self._rows(places)]] if self._has_suspects else places

    @cached_property
    def all_mains(self) -> Ints:
        """Each node's emptiest device, of those that have room."""
        return self._mains_of(self._most_bytes > 0)

    @cached_property
    def trusted_mains(self) -> Ints:
        """Not of nodes on which the model failed lately."""
        if not self._has_suspects:
            return self.all_mains
        return self._mains_of((self._most_bytes > 0) & ~self._is_suspect)

    def main_of(self, row: int) -> int:
        return row * self.cluster.layout.width + int(self._emptiest[row])

    def offers(self, places: Iterable[int]) -> list[Offer]:
        return [self._offer(int(place)) for place in places]

    def with_whole_room(self, mains: Ints) -> Ints:
        """Of these, where the whole model fits: on the device and in the host cache."""
        rows = self._rows(mains)
        fits: Bools = self._most_bytes[rows] >= self.shape.needed_bytes
        has_cache = self.cluster.columns.cache_free_bytes[rows] >= self.shape.files_bytes
        for index in (fits & ~has_cache).nonzero()[0].tolist():
            has_cache[index] = self._shares_enough(int(rows[index]))
        return mains[fits & has_cache]

    def has_whole_room(self, main: Offer) -> bool:
        """As `with_whole_room`, of one."""
        if main.free_bytes < self.shape.needed_bytes:
            return False
        has_cache = main.cache_free_bytes >= self.shape.files_bytes
        return has_cache or self._shares_enough(self.cluster.layout.row_of[main.node.id])

    def with_whole_room_in(self, mains: Ints) -> Ints:
        """All devices where the whole model fits of nodes where it fits on the emptiest one."""
        rows = self._rows(mains)
        rooms = self.cluster.rooms_for(self.shape.deployable.summary.dtype, rows)
        places = self.cluster.places_in(rows)
        return places[(rooms >= self.shape.needed_bytes) & (rooms > 0)]

    def soonest(self, places: Ints, count: int, share_bytes: float) -> list[Offer]:
        """Where a stage of that many bytes would be ready first; suspect nodes come last.

        Among equals those that need no import, then those that have the bytes first, then the
        emptiest devices, so that neighbours disturb each other least.
        """
        return self.offers(first_of(places, count, self._keys(share_bytes)))

    def soonest_whole(self, mains: Ints, count: int) -> list[Offer]:
        """Of all devices with room for the whole model, of these nodes; it fits on these, which are
        the emptiest ones of their nodes.

        So many devices that come first are on the nodes whose emptiest ones do, where all devices
        of a node differ in their room alone.
        """
        keys = self._keys(self.shape.deployable.summary.weight_bytes)
        is_even = self.cluster.columns.is_launch_even[self._rows(mains)]
        if len(mains) > count and np.count_nonzero(is_even) == len(mains):
            mains = np.sort(first_of(mains, count, keys))
        return self.offers(first_of(self.with_whole_room_in(mains), count, keys))

    def holding_most(self, places: Ints) -> list[int]:
        """The place whose node's host cache holds most of the model; none where nobody holds any.
        Among equals the emptiest."""
        held = self._cached_bytes[self._rows(places)]
        if not len(places) or not held.any():
            return []
        most = places[held == held.max()]
        found: list[int] = first_of(most, 1, [self._emptiness(Room.SCARCEST)]).tolist()
        return found

    def roomiest(self, places: Ints, count: int, room: Room) -> list[Offer]:
        """Those with the most room; suspect nodes come last."""
        return self.offers(first_of(places, count, [self._suspicion, self._emptiness(room)]))

    def _offer(self, place: int) -> Offer:
        offer = self._offers.get(place)
        if offer is None:
            row, slot = divmod(place, self.cluster.layout.width)
            node = self.cluster.by_row[row]
            assert node is not None, "a node that cannot be used has no room"
            offer = self._offers[place] = Offer.of(node, node.devices[slot], self.shape)
        return offer

    def _keys(self, share_bytes: float) -> list[Key]:
        """Of `soonest`."""
        columns = self.cluster.columns
        if self.shape.deployable.cached:
            missing_bytes = np.maximum(0.0, share_bytes - self._cached_bytes)
            fetch_s = missing_bytes / columns.rate_bytes_per_s
            fetched_s = fetch_s + np.where(missing_bytes > 0, columns.tail_s, 0.0)
        else:  # mostly: then what is missing is the same everywhere
            fetch_s = share_bytes / columns.rate_bytes_per_s
            fetched_s = fetch_s + columns.tail_s if share_bytes > 0 else fetch_s

        def rank(places: Ints) -> Floats:
            """Suspicion, then when it would be ready, then whether it needs an import."""
            rows, launch_s = self._rows(places), columns.launch_s.ravel()[places]
            ready = np.rint(np.maximum(fetched_s[rows], launch_s) / SAME_S)
            ranks: Floats = 2 * ready + ~columns.has_standby[rows]
            return ranks + _SUSPICION * self._is_suspect[rows] if self._has_suspects else ranks

        return [rank, lambda places: fetch_s[self._rows(places)], self._emptiness(Room.SCARCEST)]

    def _mains_of(self, is_wanted: Bools) -> Ints:
        rows = is_wanted.nonzero()[0]
        found: Ints = rows * self.cluster.layout.width + self._emptiest[rows]
        return found

    @cached_property
    def _kind(self) -> int:
        return kind_of(self.shape.deployable.summary.dtype)

    @property
    def _most_bytes(self) -> Ints:
        """By row."""
        most: Ints = self.cluster.columns.most_bytes[self._kind]
        return most

    @property
    def _emptiest(self) -> Ints:
        """By row."""
        found: Ints = self.cluster.columns.emptiest[self._kind]
        return found

    @property
    def _is_suspect(self) -> Bools:
        """By row."""
        return self.cluster.columns.is_suspect

    @cached_property
    def _has_suspects(self) -> bool:
        return bool(np.count_nonzero(self._is_suspect))

    def _rows(self, places: Ints) -> Ints:
        return self.cluster.layout.rows[places]

    def _suspicion(self, places: Ints) -> Floats:
        return self.cluster.columns.is_suspect[self._rows(places)].astype(np.float64)

    def _emptiness(self, room: Room) -> Key:
        def on_device(places: Ints) -> Floats:
            spare_bytes = self.cluster.columns.spare_bytes.ravel()[places]
            return -np.maximum(spare_bytes, 0).astype(np.float64)

        def in_cache(places: Ints) -> Floats:
            return -self.cluster.columns.cache_free_bytes[self._rows(places)]

        def scarcest(places: Ints) -> Floats:
            return np.maximum(on_device(places), in_cache(places))

        return {Room.SCARCEST: scarcest, Room.DEVICE: on_device, Room.CACHE: in_cache}[room]

    @cached_property
    def _cached_bytes(self) -> Floats:
        """Of the model's weights, in the node's host cache; by row."""
        found = np.zeros(len(self.cluster.by_row))
        for node_id in self.shape.deployable.cached:
            row = self.cluster.layout.row_of.get(node_id)
            if row is not None:
                found[row] = self.shape.cached_bytes(node_id)
        return found

    def _shares_enough(self, row: int) -> bool:
        """Whether the host cache has room because workers there hold units of the model."""
        node, units = self.cluster.by_row[row], self.shape.deployable.summary.units
        if node is None or node.held_units.keys().isdisjoint(self.shape.sizes):
            return False
        return node.cache_free_bytes >= files_needed(node, units, self.shape)


def first_of(places: Ints, count: int, keys: Sequence[Key]) -> Ints:
    """The first `count` of ascending places in the order of the keys, which are only asked about
    those that are equal in all keys before."""
    sure, tied, num_open = [], places, count
    for key in keys:
        if len(tied) <= num_open:
            break
        values = key(tied)
        is_least: Bools = values == values[values.argmin()]
        num_least = np.count_nonzero(is_least)
        if num_least >= num_open:  # mostly: many devices are alike
            tied = tied if num_least == len(tied) else tied[is_least]
            continue
        limit = np.partition(values, num_open - 1)[num_open - 1]
        is_below: Bools = values < limit
        sure.append(tied[is_below])
        num_open -= len(sure[-1])
        tied = tied[values == limit]
    chosen = np.sort(np.concatenate([*sure, tied[:num_open]]))
    return chosen[np.lexsort([key(chosen) for key in reversed(keys)])]
