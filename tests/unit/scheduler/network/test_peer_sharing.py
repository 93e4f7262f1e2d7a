"""When fetches end that come out of other nodes' host caches, by hand and by a slow simulation."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.peer_sharing import background_ends_s
from services.scheduler.policy.prefetching.fetch_time import background_fetch_s, peer_fetch_s
from tests.unit.scheduler.network.fluid_simulation import simulate
from tests.unit.scheduler.network.random_networks import (
    BACKGROUND,
    SomeNetwork,
    flow,
    networks,
    nic,
)

NODES = "abcd"


def from_peers(fetch_id: str, num_bytes: int, node_id: str, *sender_ids: str) -> Flow:
    own = flow(fetch_id, num_bytes, node_id, fetch_class=BACKGROUND)
    return replace(own, sender_ids=sender_ids)


@st.composite
def with_peers(draw: st.DrawFn) -> SomeNetwork:
    """Some of its background flows come from other nodes."""
    some = draw(networks())
    found = {}
    for node_id, node in some.nodes.items():
        others = [other for other in some.nodes if other != node_id]
        flows = tuple(
            replace(own, sender_ids=tuple(draw(st.lists(st.sampled_from(others), unique=True))))
            if others and not own.is_interactive
            else own
            for own in node.flows
        )
        found[node_id] = replace(node, flows=flows)
    return replace(some, nodes=found)


def test_it_takes_of_the_slower_card() -> None:
    network = Network.of({"a": nic(10), "b": nic(4), "c": nic(20)})

    assert peer_fetch_s(network, "a", ["b"], 40) == pytest.approx(10)
    assert peer_fetch_s(network, "a", ["c"], 40) == pytest.approx(4)
    assert peer_fetch_s(network, "a", ["b", "c"], 40) == pytest.approx(10)


def test_it_takes_nothing_of_the_egress() -> None:
    network = Network.of({"a": nic(10), "b": nic(10)}, egress_bytes_per_s=2)

    assert peer_fetch_s(network, "a", ["b"], 40) == pytest.approx(4)
    assert background_fetch_s(network, {"a": 40}) == pytest.approx(20)


def test_it_begins_once_nobody_waits_on_either_node() -> None:
    network = Network.of({"a": nic(10, flow("x", 20, "a")), "b": nic(10, flow("y", 50, "b"))})

    assert peer_fetch_s(network, "a", ["b"], 40) == pytest.approx(5 + 4)
    assert peer_fetch_s(network, "b", ["a"], 40) == pytest.approx(5 + 4)


def test_it_shares_its_sender_with_what_comes_there() -> None:
    """Until b's own fetch is done both have 5; then it has 10 for the other 20."""
    network = Network.of({"a": nic(20), "b": nic(10, flow("y", 20, "b", fetch_class=BACKGROUND))})

    assert peer_fetch_s(network, "a", ["b"], 40) == pytest.approx(4 + 2)


def test_a_fetch_from_the_store_shares_its_card_with_one_that_is_sent_from_there() -> None:
    network = Network.of({"a": nic(10, from_peers("p", 20, "a", "b")), "b": nic(10)})

    assert background_fetch_s(network, {"b": 30}) == pytest.approx(4 + 1)


def test_nothing_is_promised_of_a_node_that_nothing_is_known_of() -> None:
    network = Network.of({"a": nic(10)})

    assert peer_fetch_s(network, "a", ["b"], 40) == float("inf")
    assert peer_fetch_s(network, "b", ["a"], 40) == float("inf")


def test_a_flow_whose_sender_is_not_known_any_more_is_in_nobodys_way() -> None:
    network = Network.of({"a": nic(10, from_peers("p", 20, "a", "gone"))})

    assert background_fetch_s(network, {"a": 30}) == pytest.approx(3)


def test_who_waits_never_gets_it_from_a_peer() -> None:
    with pytest.raises(AssertionError):
        replace(flow("x", 1), sender_ids=("b",))


@given(with_peers())
def test_flows_end_when_the_simulation_says(some: SomeNetwork) -> None:
    """Where the egress is no limit: else a flow from a peer may have what the egress makes others
    leave of their cards, which is not counted on."""
    some = replace(some, egress_bytes_per_s=None)
    new = from_peers("new", 30, *some.nodes)
    simulated = simulate(some.with_flows([new]).nodes, None)

    found = background_ends_s(some.network, [new])

    assert found == pytest.approx({id_: float(simulated[id_]) for id_ in found}, rel=1e-9)


@given(with_peers())
def test_nobody_who_waits_is_slowed(some: SomeNetwork) -> None:
    new = from_peers("new", 30, *some.nodes)
    added = some.network.with_flows([new])

    assert added.interactive_ends_s == some.network.interactive_ends_s


@given(networks())
def test_without_peers_it_is_the_usual_forecast(some: SomeNetwork) -> None:
    new = flow("new", 30, "a", fetch_class=BACKGROUND)

    found = background_ends_s(some.network, [new])

    assert found["new"] == pytest.approx(background_fetch_s(some.network, {"a": 30}), rel=1e-9)
