"""Whether new fetches may go where a plan wants them: by the deadlines of those already there.
Pure.

A newcomer is refused if it would make somebody late who could still be in time. Nobody is kept away
by a flow without a deadline, by one that would be late even if it were alone on its links, nor by
one of the background, which waits until interactive flows are done.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from services.scheduler.policy.network.flow import EPSILON_S, Flow
from services.scheduler.policy.network.forecast import interactive_forecast
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.node_flows import NodeFlows


@dataclass(frozen=True)
class Admission:
    """`done_at_s` of the newcomers, by fetch, in monotonic seconds, if all of them begin now. Their
    own deadlines decide nothing here: whoever asks knows what else a plan can do."""

    done_at_s: Mapping[str, float]
    made_late: tuple[str, ...]  # fetches that would be late because of the newcomers
    late: tuple[str, ...]  # newcomers that would be late themselves

    @property
    def is_admitted(self) -> bool:
        """Everyone else is still in time."""
        return not self.made_late


def admits(network: Network, newcomers: Sequence[Flow], now_s: float) -> Admission:
    """A plan's interactive fetches, all at once. Looks at their nodes alone, unless the egress is a
    limit: then all flows are run to their ends."""
    assert all(flow.is_interactive for flow in newcomers), "background fetches need no admission"
    changed, node_ids = network.nodes_with_flows(newcomers), {flow.node_id for flow in newcomers}
    after = None if network.egress_bytes_per_s is None else network.changed(changed)
    if after is not None and after.is_egress_limit:
        nodes, after_s = network.active, after.interactive_ends_s
    else:
        nodes = _nodes(network, node_ids)
        known = {node_id: network.get(node_id) for node_id in node_ids} | changed
        after_s = interactive_forecast([node for node in known.values() if node is not None])
    losing = [
        flow
        for flow in _protected(nodes, network.egress_bytes_per_s, now_s)
        if is_late(flow, now_s + after_s[flow.fetch_id])
    ]
    done_at_s = {flow.fetch_id: now_s + after_s.get(flow.fetch_id, 0.0) for flow in newcomers}
    late = (flow.fetch_id for flow in newcomers if is_late(flow, done_at_s[flow.fetch_id]))
    return Admission(done_at_s, _delayed(losing, network, after_s), tuple(late))


def _delayed(
    losing: Sequence[Flow], network: Network, after_s: Mapping[str, float]
) -> tuple[str, ...]:
    """Those of them that would be done sooner without the newcomers. Mostly nobody asks."""
    if not losing:
        return ()
    if network.is_egress_limit:
        before_s = network.interactive_ends_s
    else:
        before_s = interactive_forecast(_nodes(network, {flow.node_id for flow in losing}))
    ids = (flow.fetch_id for flow in losing)
    return tuple(sorted(id_ for id_ in ids if after_s[id_] > before_s[id_] + EPSILON_S))


def is_late(flow: Flow, done_at_s: float) -> bool:
    return flow.deadline_s is not None and done_at_s > flow.deadline_s + EPSILON_S


def _protected(
    nodes: Iterable[NodeFlows], egress_bytes_per_s: float | None, now_s: float
) -> Iterable[Flow]:
    """Interactive flows that would be in time if they were alone."""
    for node in nodes:
        alone_bytes_per_s = min(node.nic_bytes_per_s, egress_bytes_per_s or inf)
        for flow in node.interactive:
            if flow.deadline_s is None:
                continue
            if not is_late(flow, now_s + flow.remaining_bytes / alone_bytes_per_s):
                yield flow


def _nodes(network: Network, node_ids: Iterable[str]) -> tuple[NodeFlows, ...]:
    found = map(network.get, node_ids)
    return tuple(node for node in found if node is not None)
