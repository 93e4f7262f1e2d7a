"""The flows of one node, and what follows from them and the node's NIC alone. Pure.

Interactive flows share the NIC equally; those of the background get what is left, which is nothing
before the last interactive flow is done. So flows of one class end in the order of their remaining
bytes, and until the flow with `b` bytes left is done the NIC carries min(b, theirs) of each flow of
its class: it is done after `sum(min(b, theirs)) / rate`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

import numpy as np
from numpy.typing import NDArray

from services.scheduler.policy.network.flow import Flow

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
    def remaining_bytes(self) -> Floats:
        return np.array([flow.remaining_bytes for flow in self.interactive], np.float64)

    @cached_property
    def carried_bytes(self) -> Floats:
        """By the NIC, until each of them is done."""
        return carried_bytes(self.remaining_bytes)

    @cached_property
    def ends_s(self) -> Floats:
        """Seconds until each of them is done, where the NIC alone is the limit."""
        ends: Floats = self.carried_bytes / self.nic_bytes_per_s
        return ends

    @cached_property
    def deadlines_s(self) -> Floats:
        """inf: none."""
        found = [inf if flow.deadline_s is None else flow.deadline_s for flow in self.interactive]
        return np.array(found, np.float64)


def carried_bytes(remaining_bytes: Floats) -> Floats:
    """Until each flow is done: sum(min(its bytes, theirs)). Ascending in, ascending out."""
    num_longer = np.arange(len(remaining_bytes) - 1, -1, -1)
    carried: Floats = np.cumsum(remaining_bytes) + remaining_bytes * num_longer
    return carried


def _by_remaining(flows: Iterable[Flow]) -> tuple[Flow, ...]:
    return tuple(sorted(flows, key=lambda flow: (flow.remaining_bytes, flow.fetch_id)))
