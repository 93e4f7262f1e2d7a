"""Flows as one would first simulate them: exact fractions, every link and flow looked at after each
end. Slow, and shares nothing with what it checks."""

from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction

from libs.common.states import FetchClass
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.node_flows import NodeFlows

EGRESS = "egress"
Capacities = dict[str, Fraction]


def links_of(flow: Flow) -> set[str]:
    return {flow.node_id, *(flow.sender_ids or (EGRESS,))}


def rates_of(flows: Collection[Flow], capacities: Capacities) -> dict[str, Fraction]:
    """Progressive filling: of all links the one that allows each of its flows least is full first;
    they keep that rate, and it is taken from whatever other links they cross."""
    left, waiting, found = dict(capacities), {f.fetch_id: f for f in flows}, {}
    while waiting:
        users = {link: [f for f in waiting.values() if link in links_of(f)] for link in left}
        shares = {link: left[link] / len(own) for link, own in users.items() if own}
        tightest = min(shares, key=lambda link: shares[link])
        rate = shares[tightest]
        for flow in users[tightest]:
            found[flow.fetch_id] = rate
            del waiting[flow.fetch_id]
            for link in left.keys() & links_of(flow):
                left[link] -= rate
    return found


def rates_by_class(flows: Iterable[Flow], capacities: Capacities) -> dict[str, Fraction]:
    """Interactive flows first; the others have what these leave."""
    flows = list(flows)
    first = [flow for flow in flows if flow.fetch_class is FetchClass.INTERACTIVE]
    found, left = rates_of(first, capacities), dict(capacities)
    for flow in first:
        for link in left.keys() & links_of(flow):
            left[link] -= found[flow.fetch_id]
    others = [flow for flow in flows if flow not in first]
    return {**found, **rates_of(others, left)}


def simulate(
    nodes: Mapping[str, NodeFlows], egress_bytes_per_s: float | None
) -> dict[str, Fraction]:
    """When each flow ends, in seconds from now, by fetch."""
    capacities = capacities_of(nodes, egress_bytes_per_s)
    flows = {flow.fetch_id: flow for node in nodes.values() for flow in node.flows}
    left = {id_: Fraction(flow.remaining_bytes) for id_, flow in flows.items()}
    now_s, ends_s = Fraction(0), {}
    while flows:
        rates = rates_by_class(flows.values(), capacities)
        step_s = min(left[id_] / rate for id_, rate in rates.items() if rate)
        now_s += step_s
        for id_, rate in rates.items():
            left[id_] -= rate * step_s
            if not left[id_]:
                ends_s[id_] = now_s
                del flows[id_]
    return ends_s


def capacities_of(nodes: Mapping[str, NodeFlows], egress_bytes_per_s: float | None) -> Capacities:
    capacities = {id_: Fraction(node.nic_bytes_per_s) for id_, node in nodes.items()}
    if egress_bytes_per_s is not None:
        capacities[EGRESS] = Fraction(egress_bytes_per_s)
    return capacities
