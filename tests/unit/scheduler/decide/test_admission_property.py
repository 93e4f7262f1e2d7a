"""Whatever starts in a round, no start's fetches make another one miss the deadline that it was
admitted with: an exact simulation of all fetches says when they end."""

from fractions import Fraction

from hypothesis import event, given, settings
from hypothesis import strategies as st

from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.network.flow import EPSILON_S
from services.scheduler.policy.network.node_flows import NodeFlows
from services.scheduler.policy.network.start_admission import flows_of
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from tests.unit.scheduler.network.fluid_simulation import simulate
from tests.unit.scheduler.snapshots import NOW_S, SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary

NODE_NICS = st.lists(st.integers(50, 400), min_size=1, max_size=3)


@st.composite
def cluster_with_requests(draw: st.DrawFn) -> tuple[SmallCluster, dict[str, int]]:
    """All models are asked for at once, a second ago; and each node's network card."""
    made = SmallCluster()
    nics = {f"node-{i}": nic for i, nic in enumerate(draw(NODE_NICS))}
    for node_id, nic in nics.items():
        made.add_node(node_id, memory_bytes=100_000, nic_bytes_per_s=nic)
    for i in range(draw(st.integers(2, 10))):
        layers = draw(st.lists(st.integers(50, 400), min_size=1, max_size=4))
        settings = {
            "max_pipeline_size": draw(st.integers(1, 3)),
            "slo_ttft_s": draw(st.sampled_from([3.0, 5.0, 8.0, 12.0, 20.0, 40.0])),
        }
        made.add_model(a_model(f"model-{i}", **settings), summary(unit_sizes=(100, *layers, 10)))
        made.add_request(a_request(f"request-{i}", f"model-{i}"))
    return made, nics


@given(cluster_with_requests())
@settings(max_examples=200)
def test_every_start_with_a_deadline_has_its_bytes_by_then(
    drawn: tuple[SmallCluster, dict[str, int]],
) -> None:
    cluster, nics = drawn

    decided = decide_round(cluster.snapshot(), SWEEP, NodeMemo())

    starts = [x for x in decided.decisions if isinstance(x, d.StartEndpoint)]
    flows = [f for x in starts for f in flows_of(x.plan, x.endpoint_id, x.fetch_deadline_s)]
    carried = {
        id_: NodeFlows(nic, tuple(flow for flow in flows if flow.node_id == id_))
        for id_, nic in nics.items()
    }
    ends_s = simulate(carried, None)
    due_s = {f.fetch_id: f.deadline_s - NOW_S for f in flows if f.deadline_s is not None}
    event("some wait" if len(starts) < len(cluster.models) else "all start")
    late = {id_ for id_, left_s in due_s.items() if ends_s[id_] > Fraction(left_s + EPSILON_S)}
    assert not late
