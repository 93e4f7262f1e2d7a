"""When flows will be done, if none comes and none goes but at its end. Pure.

Where the NICs alone are the limit each node is a sum (`node_flows.py`); where the egress may be,
all flows are run to their ends. Background flows have what is left by interactive ones: on a node
that has any of these it is nothing, because each of them fills its NIC or the whole egress.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from services.scheduler.policy.network.egress_sharing import EgressSharing, SharingNode
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.node_flows import Floats, NodeFlows, carried_bytes


def forecast(
    nodes: Sequence[NodeFlows], egress_bytes_per_s: float | None = None
) -> dict[str, float]:
    """Seconds until each flow is done, by fetch."""
    nodes = [node for node in nodes if node.flows]
    if not is_egress_limit(nodes, egress_bytes_per_s):
        return {id_: end_s for node in nodes for id_, end_s in _ends_on_nic(node)}
    assert egress_bytes_per_s is not None, "else the NICs are the limit"
    sharing, members = _run_interactive(nodes, egress_bytes_per_s)
    found = _ends_of([node.interactive for node in nodes], members)
    found.update(_background_ends(nodes, members, sharing))
    return found


def interactive_forecast(
    nodes: Sequence[NodeFlows], egress_bytes_per_s: float | None = None
) -> dict[str, float]:
    """The same of interactive flows alone: the others make no difference to them."""
    nodes = [node for node in nodes if node.interactive]
    if not is_egress_limit(nodes, egress_bytes_per_s):
        return {
            flow.fetch_id: end_s
            for node in nodes
            for flow, end_s in zip(node.interactive, node.ends_s.tolist(), strict=True)
        }
    assert egress_bytes_per_s is not None, "else the NICs are the limit"
    _, members = _run_interactive(nodes, egress_bytes_per_s)
    return _ends_of([node.interactive for node in nodes], members)


def egress_left(
    nodes: Sequence[NodeFlows], egress_bytes_per_s: float | None
) -> list[tuple[float, float]] | None:
    """What interactive flows leave of it, from each of these moments on, the first of which is 0;
    None: it is no limit."""
    if egress_bytes_per_s is None or not is_egress_limit(nodes, egress_bytes_per_s):
        return None
    sharing, _ = _run_interactive(nodes, egress_bytes_per_s)
    used = sharing.used_bytes_per_s
    return [(at_s, max(0.0, egress_bytes_per_s - rate)) for at_s, rate in used]


def is_egress_limit(nodes: Iterable[NodeFlows], egress_bytes_per_s: float | None) -> bool:
    """Whether the egress may be the limit of any of these flows; never, where all NICs together
    carry less."""
    if egress_bytes_per_s is None:
        return False
    return sum(node.nic_bytes_per_s for node in nodes) > egress_bytes_per_s


def _ends_on_nic(node: NodeFlows) -> Iterable[tuple[str, float]]:
    """Of both classes."""
    before = float(node.remaining_bytes.sum())
    carried = np.array(carried_bytes(_bytes(node.background).tolist()))
    background_s = (before + carried) / node.nic_bytes_per_s
    ids = (flow.fetch_id for flow in (*node.interactive, *node.background))
    return zip(ids, (*node.ends_s.tolist(), *background_s.tolist()), strict=True)


def _run_interactive(
    nodes: Sequence[NodeFlows], egress_bytes_per_s: float
) -> tuple[EgressSharing, list[SharingNode]]:
    members = [SharingNode(node.nic_bytes_per_s, node.remaining_bytes.tolist()) for node in nodes]
    sharing = EgressSharing(egress_bytes_per_s)
    sharing.join(member for member in members if member.num_left)
    sharing.run()
    return sharing, members


def _background_ends(
    nodes: Sequence[NodeFlows], interactive: Sequence[SharingNode], used: EgressSharing
) -> dict[str, float]:
    """They share what interactive flows leave of the egress, which only grows; a node's begin when
    its last interactive flow is done."""
    capacity = used.capacity_bytes_per_s
    members = [
        SharingNode(node.nic_bytes_per_s, _bytes(node.background).tolist()) for node in nodes
    ]
    begins = [
        (first.ends_s[-1] if first.ends_s else 0.0, member)
        for first, member in zip(interactive, members, strict=True)
        if member.num_left
    ]
    sharing = EgressSharing(0.0)
    steps = [(at_s, capacity - use) for at_s, use in used.used_bytes_per_s]
    for at_s in sorted({*(at_s for at_s, _ in steps), *(at_s for at_s, _ in begins)}):
        sharing.run(until_s=at_s)
        for _, left in (step for step in steps if step[0] == at_s):
            sharing.grow(left)
        sharing.join([member for begin_s, member in begins if begin_s == at_s])
    sharing.run()
    return _ends_of([node.background for node in nodes], members)


def _ends_of(flows: Sequence[Sequence[Flow]], members: Sequence[SharingNode]) -> dict[str, float]:
    return {
        flow.fetch_id: end_s
        for own, member in zip(flows, members, strict=True)
        for flow, end_s in zip(own, member.ends_s, strict=True)
    }


def _bytes(flows: Sequence[Flow]) -> Floats:
    return np.array([flow.remaining_bytes for flow in flows], np.float64)
