"""What weights in a host cache save, and how long their fetch takes."""

from dataclasses import replace
from math import inf

import pytest

from libs.common.bus.messages import LayerRange
from libs.common.states import FetchClass
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.node_flows import NodeFlows
from services.scheduler.policy.planning.plans import Plan, StagePlan
from services.scheduler.policy.prefetching.benefit import Benefit
from services.scheduler.policy.prefetching.fetch_time import background_fetch_s
from services.scheduler.policy.scaling.request_window import RequestWindow

STAGE = StagePlan(
    node_id="node-1",
    device_index=0,
    layers=LayerRange(first_layer=0, last_layer=2),
    units=(),
    weight_bytes=1000,
    cached_bytes=0,
    kv_bytes=100,
    cores=2,
    rate_bytes_per_s=100.0,
    launch_s=2.0,
    tail_s=0.5,
)


def test_it_saves_what_the_fetch_takes_longer_than_the_launch() -> None:
    """10 s and a tail of 0.5 s beside a launch of 2 s; the first token comes after 11 s."""
    assert Benefit.of(Plan((STAGE,)), ttft_s=11.0, target_s=8.0) == Benefit(8.5, 3.0)


def test_of_a_pipeline_the_slowest_stage_counts() -> None:
    """The other has half of it in its host cache (5.5 s), and takes 4 s to launch."""
    other = replace(STAGE, cached_bytes=500, launch_s=4.0)

    assert Benefit.of(Plan((STAGE, other)), 11.0, 8.0).saved_s == pytest.approx(6.5)


def test_more_than_it_is_late_is_not_saved_and_who_is_in_time_saves_nothing() -> None:
    assert Benefit(8.5, 3.0).counting_s == 3.0
    assert Benefit(1.5, 3.0).counting_s == 1.5
    assert Benefit.of(Plan((STAGE,)), ttft_s=11.0, target_s=12.0).counting_s == 0.0


@pytest.mark.parametrize(("saved_s", "is_worth"), [(0.16, False), (0.17, True)])
def test_it_is_worth_its_memory_if_enough_of_the_gaps_end_in_time(
    saved_s: float, is_worth: bool
) -> None:
    """Held for 40 s of the window and 10 s before, which half of the gaps do not reach: a second
    is worth 600 s, so 50 / (0.5 * 600) = 0.167 s."""
    window = RequestWindow(100.0, 140.0, share=0.5)

    assert Benefit(saved_s, 5.0).is_worth(window, fetch_s=10.0) is is_worth


def network(*flows: Flow, egress_bytes_per_s: float | None = None) -> Network:
    """Two nodes of 100 bytes/s."""
    nodes = {
        node_id: NodeFlows(100.0, tuple(flow for flow in flows if flow.node_id == node_id))
        for node_id in ("node-1", "node-2")
    }
    return Network.of(nodes, egress_bytes_per_s)


def flow(fetch_class: FetchClass, node_id: str = "node-1", num_bytes: int = 500) -> Flow:
    return Flow(f"of {node_id}", node_id, fetch_class, num_bytes)


def test_alone_a_fetch_takes_as_long_as_its_bytes() -> None:
    assert background_fetch_s(network(), {"node-1": 1000}) == pytest.approx(10.0)


def test_it_begins_when_interactive_fetches_are_done() -> None:
    """5 s of those, and then 10 s."""
    busy = network(flow(FetchClass.INTERACTIVE))

    assert background_fetch_s(busy, {"node-1": 1000}) == pytest.approx(15.0)


def test_it_shares_with_others_of_the_background() -> None:
    """Both get 50 bytes/s for 10 s, then it has 500 bytes left."""
    busy = network(flow(FetchClass.BACKGROUND))

    assert background_fetch_s(busy, {"node-1": 1000}) == pytest.approx(15.0)


def test_of_several_nodes_the_last_counts() -> None:
    busy = network(flow(FetchClass.INTERACTIVE, "node-2"))

    assert background_fetch_s(busy, {"node-1": 1000, "node-2": 600}) == pytest.approx(11.0)


def test_the_object_stores_egress_may_be_the_limit() -> None:
    """An interactive fetch elsewhere has all of the 60 bytes/s for 500 / 60 = 8.3 s."""
    busy = network(flow(FetchClass.INTERACTIVE, "node-2"), egress_bytes_per_s=60.0)

    assert background_fetch_s(busy, {"node-1": 600}) == pytest.approx(500 / 60 + 10.0)


def test_nobody_knows_how_long_it_takes_on_a_node_that_was_not_heard() -> None:
    assert background_fetch_s(network(), {"node-3": 1}) == inf
    assert background_fetch_s(network(), {"node-3": 0}) == 0.0
