"""What one more interactive flow would get on each node: columns in, columns out. Pure.

A plan looks closely at a few nodes of thousands; which ones is found by operations on columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from services.scheduler.policy.network.fair_sharing import egress_level
from services.scheduler.policy.network.flow import EPSILON_S
from services.scheduler.policy.network.node_flows import Bools, Floats, Ints, NodeFlows
from services.scheduler.policy.nodes.lazy import cached_property


@dataclass(frozen=True, eq=False)
class SharedNics:
    """The interactive flows of all nodes, one after the other."""

    rows: Ints  # of their nodes
    remaining_bytes: Floats
    ends_s: Floats  # seconds until each is done, where the NIC alone is the limit
    deadlines_s: Floats  # inf: none

    @classmethod
    def of(cls, rows: Ints, num_interactive: Ints, nodes: Sequence[NodeFlows]) -> "SharedNics":
        """Of each node its row, and how many flows it has."""
        columns = [node.columns for node in nodes] or [np.zeros((3, 0))]
        remaining_bytes, ends_s, deadlines_s = np.concatenate(columns, axis=1)
        return cls(np.repeat(rows, num_interactive), remaining_bytes, ends_s, deadlines_s)


@dataclass(frozen=True, eq=False)
class OneMoreFlow:
    nic_bytes_per_s: Floats  # by row; 0: nothing is known of the node
    num_interactive: Floats  # by row
    shared: SharedNics
    egress_bytes_per_s: float | None

    @cached_property
    def rates_bytes_per_s(self) -> Floats:
        """By row, at its beginning; it never gets less while nobody else comes.

        Exact: where the equal part of the NIC is more than the level, the egress holds the newcomer
        back, and that level is the same on all such nodes.
        """
        shares = self.nic_bytes_per_s / (self.num_interactive + 1)
        if self.egress_bytes_per_s is None:
            return shares
        rows = np.flatnonzero(self.num_interactive)
        nics, counts = self.nic_bytes_per_s[rows], self.num_interactive[rows]
        return np.minimum(shares, egress_level(self.egress_bytes_per_s, nics, counts, num_more=1))

    def seconds(self, num_bytes: Floats | float) -> Floats:
        """By row, until so many bytes would be there; inf where nothing is known of the node.

        Exact where the egress would not be a limit; else as if the newcomer's rate never rose,
        which it does when others end.
        """
        wanted, shared = self._by_row(num_bytes), self.shared
        of_others = np.minimum(shared.remaining_bytes, wanted[shared.rows])
        carried = wanted + np.bincount(shared.rows, of_others, len(wanted))
        ends_s = _divided(carried, self.nic_bytes_per_s)
        if self.egress_bytes_per_s is None:
            return ends_s
        slowest_s = _divided(wanted, self.rates_bytes_per_s)
        return np.where(self._used_bytes_per_s <= self.egress_bytes_per_s, ends_s, slowest_s)

    def keeps_deadlines(self, num_bytes: Floats | float, now_s: float) -> Bools:
        """By row, whether the node's NIC could carry so many bytes more and everyone there would
        still be in time; False where nothing is known of the node. It is what `admission.admits`
        says of one flow on one node, but for the egress: a first choice, for columns."""
        shared, kept = self.shared, self.nic_bytes_per_s > 0
        nics = self.nic_bytes_per_s[shared.rows]
        is_same = isinstance(num_bytes, float)
        wanted = num_bytes if is_same else self._by_row(num_bytes)[shared.rows]
        delays_s = np.minimum(shared.remaining_bytes, wanted) / nics
        latest_s = shared.deadlines_s + EPSILON_S
        is_made_late = (now_s + shared.ends_s + delays_s > latest_s) & (delays_s > EPSILON_S)
        could_be_in_time = now_s + shared.remaining_bytes / nics <= latest_s
        kept[shared.rows[is_made_late & could_be_in_time]] = False
        return kept

    @property
    def _used_bytes_per_s(self) -> Floats:
        """By row, the NICs of all nodes that would have a flow then, together."""
        is_idle = self.num_interactive == 0
        used: Floats = self.nic_bytes_per_s[~is_idle].sum() + self.nic_bytes_per_s * is_idle
        return used

    def _by_row(self, num_bytes: Floats | float) -> Floats:
        return np.broadcast_to(np.asarray(num_bytes, np.float64), self.nic_bytes_per_s.shape)


def _divided(values: Floats, by: Floats) -> Floats:
    """inf where there is nothing to divide by."""
    found: Floats = np.divide(values, by, out=np.full(len(values), inf), where=by > 0)
    return found
