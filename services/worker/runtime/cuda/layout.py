"""Where each unit of a stage lies in the one allocation that holds them all. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.weights.manifest import UnitEntry

ALIGNMENT_BYTES = 256  # what the driver's own allocations have; a unit's tensors are less strict


@dataclass(frozen=True)
class SlabLayout:
    offsets: dict[str, int]  # of each unit by its digest, in the order in which they are needed
    size_bytes: int


def plan_slab(units: Sequence[UnitEntry]) -> SlabLayout:
    """One after the other; a unit that several layers share lies there once."""
    offsets: dict[str, int] = {}
    end = 0
    for unit in units:
        if unit.digest not in offsets:
            offsets[unit.digest] = start = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            end = start + unit.size_bytes
    return SlabLayout(offsets, end)
