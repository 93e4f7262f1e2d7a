"""What the planner ranks devices by, in columns. Pure.

Of the devices of a node the emptiest is wanted mostly, so each row names it: then thousands of
devices are ranked by looking at as many nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from libs.common.engines import BFLOAT16
from services.scheduler.policy.nodes.node import Node

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOWHERE_BYTES = -(2**62)  # free where there is no device that may be used


def kind_of(dtype: str) -> int:
    """Which devices compute the type: all of them, or those of the second kind alone."""
    return int(dtype == BFLOAT16)


@dataclass(frozen=True, eq=False)
class Columns:
    """By device: [row, place in the row]; by node: [row]; by kind of devices, too: [kind, row]."""

    spare_bytes: Ints  # free, less what a process takes itself; below 0 where it is overcommitted
    # Until the next worker's process can compute, if its weights are there: a standby, if any.
    launch_s: Floats
    has_bfloat16: Bools
    is_launch_even: Bools  # it takes as long on all devices of the node
    rate_bytes_per_s: Floats
    cache_free_bytes: Floats  # inf: not known
    has_standby: Bools
    tail_s: Floats
    is_suspect: Bools
    most_bytes: Ints  # on the emptiest device, for weights and KV cache; 0: none has room
    emptiest: Ints  # its place in the row; the first of those that are as empty

    @classmethod
    def empty(cls, num_rows: int, width: int) -> "Columns":
        return cls(
            spare_bytes=np.full((num_rows, width), NOWHERE_BYTES, np.int64),
            launch_s=np.zeros((num_rows, width)),
            has_bfloat16=np.zeros((num_rows, width), np.bool_),
            is_launch_even=np.ones(num_rows, np.bool_),
            rate_bytes_per_s=np.ones(num_rows),
            cache_free_bytes=np.zeros(num_rows),
            has_standby=np.zeros(num_rows, np.bool_),
            tail_s=np.zeros(num_rows),
            is_suspect=np.zeros(num_rows, np.bool_),
            most_bytes=np.zeros((2, num_rows), np.int64),
            emptiest=np.zeros((2, num_rows), np.int64),
        )

    def copy(self) -> "Columns":
        return Columns(*[getattr(self, name).copy() for name in _NAMES])

    def write(self, row: int, node: Node | None) -> None:
        """Only while nobody else has these columns."""
        if node is None:
            self.spare_bytes[row] = NOWHERE_BYTES
            self._write_rooms(row, (), ())
            return
        devices, has_standby = node.devices, node.num_standbys > 0
        width, launches_s = len(devices), [device.launch_s for device in devices]
        spare_bytes = [d.free_bytes - d.worker_bytes for d in devices]
        has_bfloat16 = [device.has_bfloat16 for device in devices]
        self.spare_bytes[row, :width] = spare_bytes
        self.launch_s[row, :width] = node.standby_launch_s if has_standby else launches_s
        self.has_bfloat16[row, :width] = has_bfloat16
        self.is_launch_even[row] = has_standby or len(set(launches_s)) < 2
        self.rate_bytes_per_s[row] = node.rate_bytes_per_s
        self.cache_free_bytes[row] = node.cache_free_bytes
        self.has_standby[row] = has_standby
        self.tail_s[row] = node.tail_s
        self.is_suspect[row] = node.is_suspect
        self._write_rooms(row, spare_bytes, has_bfloat16)

    def _write_rooms(
        self, row: int, spare_bytes: Sequence[int], has_bfloat16: Sequence[bool]
    ) -> None:
        able = zip(spare_bytes, has_bfloat16, strict=True)
        for kind, rooms in enumerate((spare_bytes, [b if has else 0 for b, has in able])):
            most_bytes = max((0, *rooms))
            self.most_bytes[kind, row] = most_bytes
            self.emptiest[kind, row] = rooms.index(most_bytes) if most_bytes else 0


_NAMES = tuple(field.name for field in fields(Columns))
