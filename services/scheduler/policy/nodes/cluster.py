"""The cluster as the planner asks it: a value for each node, and columns of numbers. Pure.

A plan looks closely at a few devices of thousands. Which ones is found by operations on whole
columns; values are read of those few alone. A change copies the columns, some tens of kilobytes,
and writes the rows of the nodes that it concerns.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from services.scheduler.policy.cluster import Device
from services.scheduler.policy.nodes.columns import Columns, Ints, kind_of
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.nodes.node import Node

ALL_ROWS = slice(None)


@dataclass(frozen=True, eq=False)
class Layout:
    """Which row a node has, and which place a device has in it, in order of ids and indexes. All
    rows are as wide as that of the node with the most devices."""

    devices: Mapping[str, tuple[int, ...]]  # indexes, by node
    width: int = field(init=False)
    row_of: Mapping[str, int] = field(init=False)
    place_of: Mapping[tuple[str, int], int] = field(init=False)  # by node and index
    rows: Ints = field(init=False)  # of the places

    def __post_init__(self) -> None:
        node_ids = sorted(self.devices)
        width = max(map(len, self.devices.values()), default=0) or 1
        places = {
            (node_id, index): row * width + slot
            for row, node_id in enumerate(node_ids)
            for slot, index in enumerate(self.devices[node_id])
        }
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "row_of", {id_: row for row, id_ in enumerate(node_ids)})
        object.__setattr__(self, "place_of", places)
        object.__setattr__(self, "rows", np.repeat(np.arange(len(node_ids)), width))

    @classmethod
    def of(cls, devices: Mapping[str, Iterable[Device]]) -> "Layout":
        return cls({id_: tuple(device.index for device in own) for id_, own in devices.items()})

    def fits(self, node_id: str, devices: Iterable[Device]) -> bool:
        """Whether the node has the devices for which it was made."""
        return self.devices.get(node_id) == tuple(device.index for device in devices)


@dataclass(frozen=True, eq=False)
class Cluster:
    layout: Layout
    by_row: tuple[Node | None, ...]  # None: it cannot be used now
    columns: Columns
    num_devices: int = 0
    # Answers that were given before:
    _emptiest: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> "Cluster":
        by_id = {node.id: node for node in nodes}
        return cls.without_nodes(
            Layout.of({node.id: node.devices for node in by_id.values()})
        ).changed(by_id)

    @classmethod
    def without_nodes(cls, layout: Layout) -> "Cluster":
        return cls(
            layout, (None,) * len(layout.row_of), Columns.empty(len(layout.row_of), layout.width)
        )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of their ids."""
        return tuple(node for node in self.by_row if node is not None)

    @cached_property
    def room_bytes(self) -> Ints:
        """By place: for weights and KV cache of one more worker; never less than none."""
        return np.maximum(self.columns.spare_bytes.ravel(), 0)

    def get(self, node_id: str) -> Node | None:
        row = self.layout.row_of.get(node_id)
        return None if row is None else self.by_row[row]

    def changed(self, nodes: Mapping[str, Node | None]) -> "Cluster":
        """With these values of nodes of its layout; None takes a node out."""
        if not nodes:
            return self
        by_row, columns, num_devices = list(self.by_row), self.columns.copy(), self.num_devices
        for node_id, node in nodes.items():
            row = self.layout.row_of[node_id]
            num_devices += _num_devices(node) - _num_devices(by_row[row])
            by_row[row] = node
            columns.write(row, node)
        return Cluster(self.layout, tuple(by_row), columns, num_devices)

    def updated(self, nodes: Collection[Node]) -> "Cluster":
        """With these nodes and no others; those that are the same values as before cost little."""
        layout = self.layout
        if not all(layout.fits(node.id, node.devices) for node in nodes):
            return Cluster.of(nodes)
        found = {node.id: node for node in nodes}
        current = zip(layout.row_of, self.by_row, strict=True)
        return self.changed(
            {id_: found.get(id_) for id_, node in current if found.get(id_) is not node}
        )

    def largest_room(self, dtype: str) -> int:
        """What the emptiest device has that computes this type."""
        return int(self.columns.most_bytes[kind_of(dtype)].max(initial=0))

    def largest_rooms(self, dtype: str, count: int) -> list[int]:
        """What the emptiest devices have that compute this type, at most that many."""
        return [room for _, room in self.emptiest_places(dtype, count)]

    def emptiest_places(self, dtype: str, count: int) -> list[tuple[int, int]]:
        """At most that many devices that compute this type, with their rooms."""
        key = (kind_of(dtype), count)
        if key not in self._emptiest:
            # They are on the nodes that have the emptiest devices, one on each or several.
            rows = last_of(self.columns.most_bytes[key[0]], count)
            rooms = self.rooms_for(dtype, rows)
            places = self.places_in(rows)
            first = last_of(rooms, count).tolist()
            found = [(int(places[index]), int(rooms[index])) for index in first]
            self._emptiest[key] = sorted(found, key=lambda item: -item[1])
        return self._emptiest[key]

    def places_in(self, rows: Ints) -> Ints:
        """All places of these rows."""
        width = self.layout.width
        found: Ints = (rows[:, None] * width + np.arange(width)).ravel()
        return found

    def rooms_for(self, dtype: str, rows: Ints | slice = ALL_ROWS) -> Ints:
        """By place of these rows; none where the type is not computed."""
        rooms: Ints = np.maximum(self.columns.spare_bytes[rows].ravel(), 0)
        if kind_of(dtype):
            rooms *= self.columns.has_bfloat16[rows].ravel()
        return rooms


def _num_devices(node: Node | None) -> int:
    return 0 if node is None else len(node.devices)


def last_of(values: Ints, count: int) -> Ints:
    """Where the largest are, in any order."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.argpartition(values, -count)[-count:]


def largest(values: Ints, count: int) -> list[int]:
    """The largest first."""
    return sorted(values[last_of(values, count)].tolist(), reverse=True)
