"""The flows of one node, and what follows from them and the node's NIC alone. Pure.

Interactive flows share the NIC equally; those of the background get what is left, which is nothing
before the last interactive flow is done. So flows of one class end in the order of their remaining
bytes, and until the flow with `b` bytes left is done the NIC carries min(b, theirs) of each flow of
its class: it is done after `sum(min(b, theirs)) / rate`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf

import numpy as np
from numpy.typing import NDArray

from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.nodes.lazy import cached_property

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class NodeFlows:
    """Computes each of its answers once: whoever changes a node's flows makes a new value."""

    nic_bytes_per_s: float
    flows: tuple[Flow, ...] = ()  # that have bytes left

    def __post_init__(self) -> None:
        assert self.nic_bytes_per_s > 0, "a NIC has a rate: assume one where none is known"

    def plus(self, flows: tuple[Flow, ...]) -> "NodeFlows":
        return replace(self, flows=(*self.flows, *flows))

    @cached_property
    def interactive(self) -> tuple[Flow, ...]:
        """In the order in which they end."""
        return _by_remaining(flow for flow in self.flows if flow.is_interactive)

    @cached_property
    def background(self) -> tuple[Flow, ...]:
        """In the order in which they end, after all interactive ones."""
        return _by_remaining(flow for flow in self.flows if not flow.is_interactive)

    @property
    def num_interactive(self) -> int:
        return len(self.interactive)

    # ---------------------------------------- of interactive flows, in the order of `interactive`

    @cached_property
    def columns(self) -> Floats:
        """Remaining bytes, ends and deadlines, one below the other. Flows are few, mostly."""
        remaining = [float(flow.remaining_bytes) for flow in self.interactive]
        deadlines = [inf if f.deadline_s is None else f.deadline_s for f in self.interactive]
        ends = [bytes_ / self.nic_bytes_per_s for bytes_ in carried_bytes(remaining)]
        return np.array((remaining, ends, deadlines), np.float64)

    @property
    def remaining_bytes(self) -> Floats:
        remaining: Floats = self.columns[0]
        return remaining

    @property
    def ends_s(self) -> Floats:
        """Seconds until each of them is done, where the NIC alone is the limit."""
        ends: Floats = self.columns[1]
        return ends

    @property
    def deadlines_s(self) -> Floats:
        """inf: none."""
        deadlines: Floats = self.columns[2]
        return deadlines


def carried_bytes(remaining_bytes: Sequence[float]) -> list[float]:
    """Until each flow is done: sum(min(its bytes, theirs)). Ascending in, ascending out."""
    sums, last = accumulate(remaining_bytes), len(remaining_bytes) - 1
    found = zip(sums, remaining_bytes, strict=True)
    return [sum_ + bytes_ * (last - at) for at, (sum_, bytes_) in enumerate(found)]


def _by_remaining(flows: Iterable[Flow]) -> tuple[Flow, ...]:
    return tuple(sorted(flows, key=lambda flow: (flow.remaining_bytes, flow.fetch_id)))
