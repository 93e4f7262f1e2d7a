"""Which devices of the whole cluster suit a model best: columns in, a few offers out. Pure.

A device is named by its place in the cluster's layout. Ranks are compared key by key, and equal
devices in the order of their places, so that the same cluster always gives the same plan.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

import numpy as np

from services.scheduler.policy.nodes.cluster import Bools, Cluster, Floats, Ints
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer, files_needed

SAME_S = 0.05  # what ends within this time of each other ends at the same time

Key = Callable[[Ints], Floats]  # of places; the smallest is first


class Room(Enum):
    SCARCEST = auto()  # the lesser of the other two
    DEVICE = auto()
    CACHE = auto()  # of the node's host cache


@dataclass(frozen=True, eq=False)
class Survey:
    cluster: Cluster
    shape: ModelShape

    @cached_property
    def all_places(self) -> Ints:
        """Of devices that compute the model's type and have room for a process."""
        return np.flatnonzero(self.cluster.rooms_for(self.shape.deployable.summary.dtype))

    @cached_property
    def trusted_places(self) -> Ints:
        """Not of nodes on which the model failed lately."""
        suspect = self.cluster.columns.is_suspect
        places = self.all_places
        return places[~suspect[self._rows(places)]] if suspect.any() else places

    def offers(self, places: Iterable[int]) -> list[Offer]:
        return [self._offer(int(place)) for place in places]

    def with_whole_room(self, places: Ints) -> Ints:
        """Of these, where the whole model fits: on the device and in the host cache."""
        places = places[self.cluster.room_bytes[places] >= self.shape.needed_bytes]
        has_cache = self.cluster.columns.cache_free_bytes >= self.shape.files_bytes
        if has_cache.all():
            return places
        rows = self._rows(places)
        for row in np.unique(rows[~has_cache[rows]]).tolist():
            has_cache[row] = self._shares_enough(row)
        return places[has_cache[rows]]

    def best_of_nodes(self, places: Ints) -> Ints:
        """Of these, each node's emptiest device."""
        rooms = np.zeros(len(self.cluster.layout.rows), np.int64)
        rooms[places] = self.cluster.room_bytes[places]
        grid = rooms.reshape(-1, self.cluster.layout.width)
        rows = np.flatnonzero(grid.any(axis=1))
        found: Ints = rows * self.cluster.layout.width + grid.argmax(axis=1)[rows]
        return found

    def soonest(self, places: Ints, count: int, share_bytes: float) -> list[Offer]:
        """Where a stage of that many bytes would be ready first; suspect nodes come last.

        Among equals those that need no import, then those that have the bytes first, then the
        emptiest devices, so that neighbours disturb each other least.
        """
        columns = self.cluster.columns
        missing_bytes = np.maximum(0.0, share_bytes - self._cached_bytes)
        fetch_s = missing_bytes / columns.rate_bytes_per_s
        fetched_s = fetch_s + np.where(missing_bytes > 0, columns.tail_s, 0.0)

        def ready(places: Ints) -> Floats:
            rows = self._rows(places)
            by_launch_s = columns.launch_s.ravel()[places]
            by_standby_s = columns.standby_launch_s[rows]
            launch_s = np.where(columns.has_standby[rows], by_standby_s, by_launch_s)
            return np.rint(np.maximum(fetched_s[rows], launch_s) / SAME_S)

        keys: list[Key] = [
            self._suspicion,
            ready,
            lambda places: -columns.has_standby[self._rows(places)].astype(np.float64),
            lambda places: fetch_s[self._rows(places)],
            self._emptiness(Room.SCARCEST),
        ]
        return self.offers(first_of(places, count, keys))

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
        row, slot = divmod(place, self.cluster.layout.width)
        node = self.cluster.by_row[row]
        assert node is not None, "a node that cannot be used has no room"
        return Offer.of(node, node.devices[slot], self.shape)

    def _rows(self, places: Ints) -> Ints:
        return self.cluster.layout.rows[places]

    def _suspicion(self, places: Ints) -> Floats:
        return self.cluster.columns.is_suspect[self._rows(places)].astype(np.float64)

    def _emptiness(self, room: Room) -> Key:
        def on_device(places: Ints) -> Floats:
            return -self.cluster.room_bytes[places].astype(np.float64)

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
        is_least: Bools = values == values.min()
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
