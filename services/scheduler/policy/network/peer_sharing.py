"""When background flows end, where some of them come out of other nodes' host caches. Pure.

Such a flow takes of the NIC of its node and of those of its senders, and nothing of the object
store's egress. Where it has several senders it is reckoned to take of all of them at once, which is
more than it does. It has what interactive flows leave: it begins when the last of them is done on
all of its nodes. Between two ends, beginnings or changes of the egress rates are constant and
max-min fair: they rise together until a link is full, whose flows stay where they are.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.forecast import egress_left
from services.scheduler.policy.network.network import Network

EGRESS = ""  # no node is called so


@dataclass(eq=False)
class _Moving:
    """A flow on its way to its end."""

    flow: Flow
    links: tuple[str, ...]
    begins_s: float
    left_bytes: float


def background_ends_s(network: Network, newcomers: Sequence[Flow]) -> dict[str, float]:
    """Seconds until each background flow is done that they share links with, and they themselves,
    by fetch. Of all the nodes that they cross something is known."""
    assert not any(flow.is_interactive for flow in newcomers), "those are done before"
    network = network.with_flows(newcomers)
    egress = _egress_steps(network)
    flows = [flow for node in network.by_row if node is not None for flow in node.background]
    if egress is None:
        flows = _connected(flows, newcomers)
    ends_s = _Interactive(network)
    moving = [
        _Moving(flow, links, ends_s.last_of(_nodes(flow)), float(flow.remaining_bytes))
        for flow in flows
        if (links := _links(network, flow, has_egress=egress is not None)) is not None
    ]
    return _run(network, moving, egress or [(0.0, inf)])


def _nodes(flow: Flow) -> tuple[str, ...]:
    return (flow.node_id, *flow.sender_ids)


def _links(network: Network, flow: Flow, *, has_egress: bool) -> tuple[str, ...] | None:
    """None: nothing is known of one of its nodes any more, so it stands still."""
    nodes = tuple(dict.fromkeys(_nodes(flow)))
    if any(network.get(node_id) is None for node_id in nodes):
        return None
    return (*nodes, EGRESS) if has_egress and not flow.sender_ids else nodes


def _connected(flows: Iterable[Flow], newcomers: Iterable[Flow]) -> list[Flow]:
    """Those that share a node with these, or with one that does, and so on."""
    reached = {node_id for flow in newcomers for node_id in _nodes(flow)}
    left, found = list(flows), list[Flow]()
    while touching := [flow for flow in left if not reached.isdisjoint(_nodes(flow))]:
        found += touching
        left = [flow for flow in left if reached.isdisjoint(_nodes(flow))]
        reached.update(node_id for flow in touching for node_id in _nodes(flow))
    return found


def _egress_steps(network: Network) -> list[tuple[float, float]] | None:
    """What interactive flows leave of it, from each of these moments on; None: it is no limit."""
    nodes = [node for node in network.by_row if node is not None and node.flows]
    return egress_left(nodes, network.egress_bytes_per_s)


@dataclass(frozen=True)
class _Interactive:
    network: Network

    def last_of(self, node_ids: Iterable[str]) -> float:
        """When the last interactive flow on any of these nodes is done."""
        return max(map(self._last_on, node_ids), default=0.0)

    def _last_on(self, node_id: str) -> float:
        node = self.network.get(node_id)
        if node is None or not node.interactive:
            return 0.0
        last = node.interactive[-1]
        if self.network.is_egress_limit:
            return self.network.interactive_ends_s[last.fetch_id]
        return float(node.ends_s[-1])


def _run(
    network: Network, moving: Sequence[_Moving], egress: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """What gets nothing any more stays without an end."""
    moments_s = sorted({0.0, *(at_s for at_s, _ in egress), *(one.begins_s for one in moving)})
    ends_s: dict[str, float] = {}
    left, now_s = list(moving), 0.0
    while left:
        capacity = next(rate for at_s, rate in reversed(egress) if at_s <= now_s)
        active = [one for one in left if one.begins_s <= now_s]
        rates = _rates(network, active, capacity)
        due = [(one, now_s + one.left_bytes / rate) for one, rate in rates if rate > 0]
        moment_s = next((at_s for at_s in moments_s if at_s > now_s), inf)
        next_s = min((end_s for _, end_s in due), default=inf)
        next_s = min(next_s, moment_s)
        if next_s == inf:
            break
        for one, rate in rates:
            one.left_bytes -= rate * (next_s - now_s)
        done = {one.flow.fetch_id: next_s for one, end_s in due if end_s <= next_s}
        left = [one for one in left if one.flow.fetch_id not in done]
        ends_s.update(done)
        now_s = next_s
    return ends_s


def _rates(
    network: Network, active: Sequence[_Moving], egress_bytes_per_s: float
) -> list[tuple[_Moving, float]]:
    """Of each of them now, in bytes per second."""
    num_flows = Counter(link for one in active for link in one.links)
    free = {link: _capacity(network, link, egress_bytes_per_s) for link in num_flows}
    waiting, found = list(active), list[tuple[_Moving, float]]()
    while waiting:
        fullest = min(num_flows, key=lambda link: free[link] / num_flows[link])
        rate = max(0.0, free[fullest] / num_flows[fullest])
        for one in [one for one in waiting if fullest in one.links]:
            found.append((one, rate))
            waiting.remove(one)
            for link in one.links:
                free[link] -= rate
                num_flows[link] -= 1
        num_flows = +num_flows
    return found


def _capacity(network: Network, link: str, egress_bytes_per_s: float) -> float:
    if link == EGRESS:
        return egress_bytes_per_s
    node = network.get(link)
    assert node is not None, "flows of unknown nodes stand still"
    return node.nic_bytes_per_s
