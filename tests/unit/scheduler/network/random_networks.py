"""Small networks of any kind, for properties."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from libs.common.states import FetchClass
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.node_flows import NodeFlows

INTERACTIVE, BACKGROUND = FetchClass.INTERACTIVE, FetchClass.BACKGROUND
NOW_S = 1000.0


@dataclass(frozen=True)
class SomeNetwork:
    nodes: Mapping[str, NodeFlows]
    egress_bytes_per_s: float | None

    @property
    def network(self) -> Network:
        return Network.of(self.nodes, self.egress_bytes_per_s)

    @property
    def flows(self) -> list[Flow]:
        return [flow for node in self.nodes.values() for flow in node.flows]

    def with_flows(self, flows: Sequence[Flow]) -> "SomeNetwork":
        nodes = {
            id_: node.plus(tuple(flow for flow in flows if flow.node_id == id_))
            for id_, node in self.nodes.items()
        }
        return SomeNetwork(nodes, self.egress_bytes_per_s)


def flow(
    fetch_id: str,
    remaining_bytes: int,
    node_id: str = "a",
    *,
    left_s: float | None = None,
    fetch_class: FetchClass = INTERACTIVE,
) -> Flow:
    """`left_s`: from NOW_S to its deadline."""
    deadline_s = None if left_s is None else NOW_S + left_s
    return Flow(fetch_id, node_id, fetch_class, remaining_bytes, deadline_s)


def nic(rate: float, *flows: Flow) -> NodeFlows:
    return NodeFlows(rate, flows)


_BYTES = st.integers(1, 200)
_RATES = st.integers(1, 20)
_DEADLINES = st.none() | st.integers(0, 60)
_CLASSES = st.sampled_from([INTERACTIVE, INTERACTIVE, BACKGROUND])


@st.composite
def networks(draw: st.DrawFn, *, max_nodes: int = 4, max_flows: int = 4) -> SomeNetwork:
    """Few bytes and low rates, so that many ends and shares are equal."""
    nodes = {}
    for node_id in "abcd"[: draw(st.integers(1, max_nodes))]:
        flows = tuple(
            flow(
                f"{node_id}{i}",
                draw(_BYTES),
                node_id,
                left_s=draw(_DEADLINES),
                fetch_class=draw(_CLASSES),
            )
            for i in range(draw(st.integers(0, max_flows)))
        )
        nodes[node_id] = nic(float(draw(_RATES)), *flows)
    egress = draw(st.none() | st.integers(1, 60))
    return SomeNetwork(nodes, None if egress is None else float(egress))


@st.composite
def newcomers(draw: st.DrawFn, node_ids: Sequence[str], *, min_size: int = 1) -> list[Flow]:
    """A plan's fetches; several may go to one node."""
    return [
        flow(f"new{i}", draw(_BYTES), draw(st.sampled_from(node_ids)), left_s=draw(_DEADLINES))
        for i in range(draw(st.integers(min_size, 4)))
    ]
