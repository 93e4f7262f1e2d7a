"""How long background fetches of a model would take, by what the network carries already. Pure."""

from collections.abc import Mapping, Sequence
from math import inf

from libs.common.states import FetchClass
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.forecast import forecast
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.peer_sharing import background_ends_s


def background_fetch_s(network: Network, missing_bytes: Mapping[str, int]) -> float:
    """Until the last of them is done, by node; inf where nothing is known of one. On a node they
    begin once its interactive fetches are done; all flows are run to their ends where the egress of
    the object store is a limit."""
    flows = [
        Flow(f"prefetch on {node_id}", node_id, FetchClass.BACKGROUND, num_bytes)
        for node_id, num_bytes in missing_bytes.items()
        if num_bytes > 0
    ]
    if any(network.get(flow.node_id) is None for flow in flows):
        return inf
    if network.peer_flows:
        return _last_s(flows, background_ends_s(network, flows))
    changed = network.nodes_with_flows(flows)
    if network.egress_bytes_per_s is None:
        nodes = list(changed.values())
    else:
        nodes = [node for node in network.changed(changed).by_row if node is not None]
    return _last_s(flows, forecast(nodes, network.egress_bytes_per_s))


def peer_fetch_s(
    network: Network, node_id: str, sender_ids: Sequence[str], num_bytes: int
) -> float:
    """Until a background fetch is done that comes out of these nodes' host caches; inf where
    nothing is known of one of them."""
    if any(network.get(id_) is None for id_ in (node_id, *sender_ids)):
        return inf
    if not num_bytes:
        return 0.0
    flow = Flow(
        f"fetch on {node_id}",
        node_id,
        FetchClass.BACKGROUND,
        num_bytes,
        sender_ids=tuple(sender_ids),
    )
    return _last_s([flow], background_ends_s(network, [flow]))


def _last_s(flows: Sequence[Flow], ends_s: Mapping[str, float]) -> float:
    return max((ends_s.get(flow.fetch_id, inf) for flow in flows), default=0.0)
