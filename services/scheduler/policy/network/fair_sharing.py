"""Max-min fair rates of flows that cross their node's NIC and the object store's egress. Pure.

All rates rise together until a link is full; its flows stay where they are and the others rise on
(progressive filling). Flows of one node cross the same links, so all of them have the same rate: an
equal part of the NIC, or the level that the egress allows each flow, whichever is less.
"""

from collections.abc import Sequence
from math import inf

import numpy as np

from services.scheduler.policy.network.node_flows import Floats, NodeFlows


def egress_level(
    egress_bytes_per_s: float, nics: Floats, num_flows: Floats, num_more: int = 0
) -> float:
    """The rate that no flow exceeds, so that the egress suffices; inf: the NICs use less than it.

    It solves `sum(min(nic, num_flows x level)) + num_more x level = egress`. Each node has a flow
    at least; `num_more` are flows that no NIC holds back.
    """
    shares = nics / num_flows
    order = np.argsort(shares)
    # As if the NICs before each node, in this order, were full and the egress held back the rest.
    nics, num_flows, shares = nics[order], num_flows[order], shares[order]
    full = np.cumsum(nics) - nics
    num_held = np.cumsum(num_flows[::-1])[::-1] + num_more
    levels = (egress_bytes_per_s - full) / num_held
    is_held = levels <= shares
    if is_held.any():
        return float(levels[is_held.argmax()])
    return float(egress_bytes_per_s - nics.sum()) / num_more if num_more else inf


def flow_rates(
    nodes: Sequence[NodeFlows], egress_bytes_per_s: float | None = None
) -> dict[str, float]:
    """Bytes per second of every flow now, by fetch."""
    nics = np.array([node.nic_bytes_per_s for node in nodes], np.float64)
    interactive = np.array([node.num_interactive for node in nodes], np.float64)
    background = np.array([len(node.background) for node in nodes], np.float64)
    egress = inf if egress_bytes_per_s is None else egress_bytes_per_s
    first = _rates_by_node(egress, nics, interactive)
    used = first * interactive
    second = _rates_by_node(
        max(0.0, egress - float(used.sum())), np.maximum(0.0, nics - used), background
    )
    found: dict[str, float] = {}
    for node, rate, rest in zip(nodes, first.tolist(), second.tolist(), strict=True):
        found.update((flow.fetch_id, rate) for flow in node.interactive)
        found.update((flow.fetch_id, rest) for flow in node.background)
    return found


def _rates_by_node(egress: float, nics: Floats, num_flows: Floats) -> Floats:
    """Of each flow of one class; 0 where there is none."""
    is_used = num_flows > 0
    level = egress_level(egress, nics[is_used], num_flows[is_used])
    rates = np.zeros(len(nics))
    rates[is_used] = np.minimum(nics[is_used] / num_flows[is_used], level)
    return rates
