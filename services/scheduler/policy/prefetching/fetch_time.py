"""How long background fetches of a model would take, by what the network carries already. Pure."""

from collections.abc import Mapping
from math import inf

from libs.common.states import FetchClass
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.forecast import forecast
from services.scheduler.policy.network.network import Network


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
    changed = network.nodes_with_flows(flows)
    if network.egress_bytes_per_s is None:
        nodes = list(changed.values())
    else:
        nodes = [node for node in network.changed(changed).by_row if node is not None]
    ends_s = forecast(nodes, network.egress_bytes_per_s)
    return max((ends_s.get(flow.fetch_id, inf) for flow in flows), default=0.0)
