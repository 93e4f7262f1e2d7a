"""What a stage will get of its device's compute, beside the workers that are there. Pure.

Shares are weights: who wants less than its part leaves the rest to those who want more, and on an
idle device a stage has all, whatever its memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

LEAST_SHARE = 1e-3  # a worker that got next to nothing would be predicted to take for ever


@dataclass(frozen=True)
class DeviceNeighbour:
    """A worker on the device for which a share is asked."""

    memory_share: float  # of the device's memory, its weight; in (0, 1]
    demand: float  # of the device's compute, what it wants; 0 idle, 1 all that it can get


class DeviceNeighbours(Protocol):
    def of(self, node_id: str, device_index: int) -> Sequence[DeviceNeighbour]: ...


class NoNeighbours:
    """Of devices that are idle, or of which nothing is known."""

    def of(self, _node_id: str, _device_index: int) -> Sequence[DeviceNeighbour]:
        return ()


NO_NEIGHBOURS = NoNeighbours()


def demand_of(measured: float | None, *, is_starting: bool, num_requests: int) -> float:
    """A worker's demand as measured; else all while it starts or has requests, and none when it
    has neither."""
    if measured is not None:
        return measured
    return 1.0 if is_starting or num_requests > 0 else 0.0


def expected_share(memory_share: float, neighbours: Sequence[DeviceNeighbour]) -> float:
    """What a worker gets of a device's compute while it wants all of it; in (0, 1].

    Whoever wants no more than its part by weight gets what it wants; the others, the asking worker
    among them, share what is left by weight. Worked example: the worker has 1/4 of the memory, A
    1/2 and wants 0.2 of the compute, B 1/4 and wants all. A's part would be 1/2, so it gets its
    0.2. Of the other 0.8 the worker and B have half each: 0.4. With A gone it would be 1/2, with
    B idle 0.8, alone 1; with A and B both busy 1/4, as memory is.
    """
    left, weights = 1.0, memory_share + sum(n.memory_share for n in neighbours)
    for neighbour in sorted(neighbours, key=_demand_by_weight):
        if neighbour.demand * weights > left * neighbour.memory_share:
            break
        left -= neighbour.demand
        weights -= neighbour.memory_share
    return min(1.0, left * memory_share / max(weights, memory_share))


def _demand_by_weight(neighbour: DeviceNeighbour) -> float:
    return neighbour.demand / neighbour.memory_share
