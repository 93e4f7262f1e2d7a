"""A node as the planner sees it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from services.scheduler.policy.cluster import Device
from services.scheduler.policy.nodes.lazy import cached_property

UNCAPPED_BYTES_PER_S = 1.25e9  # assumed of a NIC without a configured cap: 10 Gbit/s


@dataclass(frozen=True)
class CachePin:
    """What a worker keeps in its node's host cache: it cannot be evicted."""

    worker_id: str
    file_bytes: Mapping[str, int] = field(hash=False)  # by unit digest


@dataclass(frozen=True)
class Node:
    """A node that may be given work now: both of its services were heard lately."""

    id: str
    devices: tuple[Device, ...]  # in the order of their indexes
    nic_bytes_per_s: int  # 0: no cap is known
    num_fetches: int  # that are running now and share the NIC
    is_suspect: bool = False  # the model failed there lately, or it is quiet after such a failure
    cache_bytes: int | None = None  # host cache; None: not known
    cache_pins: tuple[CachePin, ...] = ()
    num_standbys: int = 0  # starts that need no import, as far as is known and planned
    # Measured there, or by their priors:
    standby_launch_s: float = 0.0  # until a standby's process can compute, if its weights are there
    tail_s: float = 0.0  # from the last byte of a fetch until its stage can compute

    @cached_property
    def held_units(self) -> Mapping[str, int]:
        """Bytes of their files, by digest; what several workers share counts once."""
        held: dict[str, int] = {}
        for holding in self.cache_pins:
            held.update(holding.file_bytes)
        return held

    @cached_property
    def held_bytes(self) -> int:
        return sum(self.held_units.values())

    @property
    def cache_free_bytes(self) -> float:
        """Of the host cache: free, or evictable for any model."""
        return inf if self.cache_bytes is None else self.cache_bytes - self.held_bytes

    @property
    def rate_bytes_per_s(self) -> float:
        """Its share of the network for one more fetch."""
        return (self.nic_bytes_per_s or UNCAPPED_BYTES_PER_S) / (self.num_fetches + 1)
