"""The flows of all nodes: a value for each, and columns of numbers. Pure.

A change copies the columns, some kilobytes, and writes the rows of the nodes that it concerns.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.forecast import interactive_forecast, is_egress_limit
from services.scheduler.policy.network.node_flows import Floats, NodeFlows
from services.scheduler.policy.network.one_more_flow import OneMoreFlow, SharedNics
from services.scheduler.policy.nodes.lazy import cached_property


@dataclass(frozen=True, eq=False)
class Network:
    """Rows are those of the cluster's layout. What is asked for twice is computed once."""

    row_of: Mapping[str, int]  # by node
    by_row: tuple[NodeFlows | None, ...]  # None: nothing is known of the node
    nic_bytes_per_s: Floats  # by row; 0: nothing is known of the node
    num_interactive: Floats  # by row
    egress_bytes_per_s: float | None = None  # of the object store; None: it is no limit

    @classmethod
    def of(
        cls, nodes: Mapping[str, NodeFlows], egress_bytes_per_s: float | None = None
    ) -> "Network":
        return cls.without_nodes(sorted(nodes), egress_bytes_per_s).changed(nodes)

    @classmethod
    def without_nodes(
        cls, node_ids: Iterable[str], egress_bytes_per_s: float | None = None
    ) -> "Network":
        """With a row for each, in this order."""
        row_of = {node_id: row for row, node_id in enumerate(node_ids)}
        none = np.zeros(len(row_of))
        return cls(row_of, (None,) * len(row_of), none, none, egress_bytes_per_s)

    def ids_of(self, rows: Sequence[int]) -> list[str]:
        """The nodes of these rows."""
        ids = tuple(self.row_of) if rows else ()
        return [ids[row] for row in rows]

    def get(self, node_id: str) -> NodeFlows | None:
        row = self.row_of.get(node_id)
        return None if row is None else self.by_row[row]

    def changed(self, nodes: Mapping[str, NodeFlows | None]) -> "Network":
        """With these values of nodes that have a row."""
        if not nodes:
            return self
        by_row = list(self.by_row)
        nics, counts = self.nic_bytes_per_s.copy(), self.num_interactive.copy()
        for node_id, node in nodes.items():
            row = self.row_of[node_id]
            by_row[row] = node
            nics[row] = 0.0 if node is None else node.nic_bytes_per_s
            counts[row] = 0.0 if node is None else node.num_interactive
        return replace(self, by_row=tuple(by_row), nic_bytes_per_s=nics, num_interactive=counts)

    def with_egress(self, egress_bytes_per_s: float | None) -> "Network":
        if egress_bytes_per_s == self.egress_bytes_per_s:
            return self
        return replace(self, egress_bytes_per_s=egress_bytes_per_s)

    def with_flows(self, flows: Iterable[Flow]) -> "Network":
        """As if these had begun, on nodes of which something is known: what a plan would add, and
        what this round has decided before."""
        return self.changed(self.nodes_with_flows(flows))

    def nodes_with_flows(self, flows: Iterable[Flow]) -> dict[str, NodeFlows]:
        """Those nodes alone that are others then."""
        added: defaultdict[str, list[Flow]] = defaultdict(list)
        for flow in flows:
            if flow.remaining_bytes > 0:
                added[flow.node_id].append(flow)
        changes = {}
        for node_id, new in added.items():
            node = self.get(node_id)
            assert node is not None, f"nothing is known of node {node_id}"
            changes[node_id] = node.plus(tuple(new))
        return changes

    @cached_property
    def active(self) -> tuple[NodeFlows, ...]:
        """Nodes with interactive flows."""
        found = (self.by_row[row] for row in np.flatnonzero(self.num_interactive).tolist())
        return tuple(node for node in found if node is not None)

    @cached_property
    def peer_flows(self) -> tuple[Flow, ...]:
        """Background flows that come out of other nodes' host caches."""
        nodes = (node for node in self.by_row if node is not None)
        return tuple(flow for node in nodes for flow in node.background if flow.sender_ids)

    @cached_property
    def is_egress_limit(self) -> bool:
        """Whether it may be the limit of any interactive flow."""
        if self.egress_bytes_per_s is None:
            return False
        return is_egress_limit(self.active, self.egress_bytes_per_s)

    @cached_property
    def interactive_ends_s(self) -> Mapping[str, float]:
        """Seconds until each interactive flow is done, by fetch."""
        return interactive_forecast(self.active, self.egress_bytes_per_s)

    @cached_property
    def one_more(self) -> OneMoreFlow:
        """What one more interactive flow would get on each node."""
        rows = self.num_interactive.nonzero()[0]
        counts = self.num_interactive[rows].astype(np.int64)
        shared = SharedNics.of(rows, counts, self.active)
        return OneMoreFlow(
            self.nic_bytes_per_s, self.num_interactive, shared, self.egress_bytes_per_s
        )
