"""The cluster as the planner asks it: a value for each node, and columns of numbers. Pure.

A plan looks closely at a few devices of thousands. Which ones is found by operations on whole
columns; values are read of those few alone. A change copies the columns, some tens of kilobytes,
and writes the rows of the nodes that it concerns.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from libs.common.engines import BFLOAT16
from services.scheduler.policy.cluster import Device
from services.scheduler.policy.nodes.node import Node

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOWHERE_BYTES = -(2**62)  # free where there is no device that may be used


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
class Columns:
    """By device: [row, place in the row]; by node: [row]."""

    spare_bytes: Ints  # free, less what a process takes itself; below 0 where it is overcommitted
    launch_s: Floats
    has_bfloat16: Bools
    rate_bytes_per_s: Floats
    cache_free_bytes: Floats  # inf: not known
    has_standby: Bools
    standby_launch_s: Floats
    tail_s: Floats
    is_suspect: Bools

    @classmethod
    def empty(cls, layout: Layout) -> "Columns":
        num_rows = len(layout.row_of)
        return cls(
            spare_bytes=np.full((num_rows, layout.width), NOWHERE_BYTES, np.int64),
            launch_s=np.zeros((num_rows, layout.width)),
            has_bfloat16=np.zeros((num_rows, layout.width), np.bool_),
            rate_bytes_per_s=np.ones(num_rows),
            cache_free_bytes=np.zeros(num_rows),
            has_standby=np.zeros(num_rows, np.bool_),
            standby_launch_s=np.zeros(num_rows),
            tail_s=np.zeros(num_rows),
            is_suspect=np.zeros(num_rows, np.bool_),
        )

    def copy(self) -> "Columns":
        return Columns(
            self.spare_bytes.copy(),
            self.launch_s.copy(),
            self.has_bfloat16.copy(),
            self.rate_bytes_per_s.copy(),
            self.cache_free_bytes.copy(),
            self.has_standby.copy(),
            self.standby_launch_s.copy(),
            self.tail_s.copy(),
            self.is_suspect.copy(),
        )

    def write(self, row: int, node: Node | None) -> None:
        """Only while nobody else has these columns."""
        if node is None:
            self.spare_bytes[row] = NOWHERE_BYTES
            return
        devices, width = node.devices, len(node.devices)
        self.spare_bytes[row, :width] = [d.free_bytes - d.worker_bytes for d in devices]
        self.launch_s[row, :width] = [device.launch_s for device in devices]
        self.has_bfloat16[row, :width] = [device.has_bfloat16 for device in devices]
        self.rate_bytes_per_s[row] = node.rate_bytes_per_s
        self.cache_free_bytes[row] = node.cache_free_bytes
        self.has_standby[row] = node.num_standbys > 0
        self.standby_launch_s[row] = node.standby_launch_s
        self.tail_s[row] = node.tail_s
        self.is_suspect[row] = node.is_suspect


@dataclass(frozen=True, eq=False)
class Cluster:
    layout: Layout
    by_row: tuple[Node | None, ...]  # None: it cannot be used now
    columns: Columns
    # Answers that were given before:
    _largest: dict[tuple[bool, int], list[int]] = field(default_factory=dict)
    _emptiest: dict[tuple[bool, int], list[tuple[int, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> "Cluster":
        by_id = {node.id: node for node in nodes}
        return cls.without_nodes(
            Layout.of({node.id: node.devices for node in by_id.values()})
        ).changed(by_id)

    @classmethod
    def without_nodes(cls, layout: Layout) -> "Cluster":
        return cls(layout, (None,) * len(layout.row_of), Columns.empty(layout))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of their ids."""
        return tuple(node for node in self.by_row if node is not None)

    @cached_property
    def num_devices(self) -> int:
        return int(np.count_nonzero(self.columns.spare_bytes != NOWHERE_BYTES))

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
        by_row, columns = list(self.by_row), self.columns.copy()
        for node_id, node in nodes.items():
            row = self.layout.row_of[node_id]
            by_row[row] = node
            columns.write(row, node)
        return replace(self, by_row=tuple(by_row), columns=columns, _largest={}, _emptiest={})

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

    def largest_rooms(self, dtype: str, count: int) -> list[int]:
        """What the emptiest devices have that compute this type, at most that many."""
        key = (dtype == BFLOAT16, count)
        if key not in self._largest:
            self._largest[key] = largest(self.rooms_for(dtype), count)
        return self._largest[key]

    def emptiest_places(self, dtype: str, count: int) -> list[tuple[int, int]]:
        """At most that many devices that compute this type, with their rooms."""
        key = (dtype == BFLOAT16, count)
        if key not in self._emptiest:
            rooms = self.rooms_for(dtype)
            first = (
                np.argpartition(rooms, -count)[-count:] if len(rooms) > count else range(len(rooms))
            )
            found = [(int(place), int(rooms[place])) for place in first]
            self._emptiest[key] = sorted(found, key=lambda item: -item[1])
        return self._emptiest[key]

    def rooms_for(self, dtype: str) -> Ints:
        """By place; none where the type is not computed."""
        if dtype != BFLOAT16:
            return self.room_bytes
        return np.where(self.columns.has_bfloat16.ravel(), self.room_bytes, 0)


def largest(values: Ints, count: int) -> list[int]:
    """The largest first."""
    if len(values) > count:
        values = np.partition(values, len(values) - count)[len(values) - count :]
    return sorted(values.tolist(), reverse=True)
