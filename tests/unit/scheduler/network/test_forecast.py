"""When flows end, worked out by hand and against a slow simulation in exact fractions."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.network.egress_sharing import EgressSharing, SharingNode
from services.scheduler.policy.network.forecast import forecast, interactive_forecast
from services.scheduler.policy.network.node_flows import NodeFlows
from tests.unit.scheduler.network.fluid_simulation import simulate
from tests.unit.scheduler.network.random_networks import (
    BACKGROUND,
    SomeNetwork,
    flow,
    networks,
    nic,
)


def ends_of(some: SomeNetwork) -> dict[str, float]:
    return forecast(list(some.nodes.values()), some.egress_bytes_per_s)


def test_flows_of_one_nic_end_one_after_the_other() -> None:
    node = nic(10, flow("long", 40), flow("short", 10), flow("middle", 20))

    # Until `short` is done the NIC carries 3 x 10, until `middle` 10 + 2 x 20, in all 70.
    assert forecast([node]) == {"short": 3, "middle": 5, "long": 7}


def test_background_flows_begin_when_the_last_interactive_one_is_done() -> None:
    background = [flow(f"b{i}", 10 * i, fetch_class=BACKGROUND) for i in (1, 2)]
    node = nic(10, flow("a", 30), *background)

    # 30 first; then 2 x 10 until b1 is done, and 10 more.
    assert forecast([node]) == {"a": 3, "b1": 5, "b2": 6}
    assert interactive_forecast([node]) == {"a": 3}


def test_flows_that_share_the_egress_have_more_of_it_when_others_end() -> None:
    nodes = [
        nic(10, flow("a", 20, "a")),
        nic(10, flow("b", 50, "b")),
        nic(2, flow("c", 6, "c")),
    ]

    # NIC c is full with 2, so a and b have 4 each. At 3 s c is done, and they have 5: of a 8 bytes
    # are left. At 4.6 s b has 20 bytes, and then the whole egress for the other 30.
    assert forecast(nodes, 10) == pytest.approx({"c": 3, "a": 4.6, "b": 7.6})


def test_a_nic_that_was_the_limit_is_none_once_its_node_has_fewer_flows() -> None:
    nodes = [nic(6, flow("a", 6, "a"), flow("b", 30, "a")), nic(20, flow("c", 100, "c"))]

    # Of 9, a third each: no NIC is the limit. At 2 s a is done; b and c have 4.5 each then. b has
    # 24 left, until 7.33 s; c has got 6 + 24 by then, and has 9 for the other 70.
    assert forecast(nodes, 9) == pytest.approx({"a": 2, "b": 22 / 3, "c": 22 / 3 + 70 / 9})
    # Of 12, the NIC allows 3 and 3, so c has 6. At 2 s a is done, and b has 6, too, for its other
    # 24, until 6 s; c has got 12 + 24 by then, and has 12 for the other 64.
    assert forecast(nodes, 12) == pytest.approx({"a": 2, "b": 6, "c": 6 + 64 / 12})


def test_a_background_flow_waits_for_what_is_left_of_the_egress() -> None:
    nodes = [
        nic(10, flow("a", 40, "a")),
        nic(10, flow("b", 20, "b")),
        nic(10, flow("c", 25, "c", fetch_class=BACKGROUND)),
    ]

    # a and b use 15 together until 2.67 s, when b is done: 20 / 7.5. Then a uses 10 and c has 5. a
    # has 20 left until 4.67 s; c has 15 left then, at 10.
    assert forecast(nodes, 15) == pytest.approx(
        {"b": 20 / 7.5, "a": 20 / 7.5 + 2, "c": 20 / 7.5 + 3.5}
    )


def test_a_background_flow_gives_way_to_another_that_begins() -> None:
    nodes = [
        nic(15, flow("a", 100, "a", fetch_class=BACKGROUND)),
        nic(15, flow("b0", 15, "b"), flow("b1", 60, "b", fetch_class=BACKGROUND)),
    ]

    # b0 uses 15 of 20 until 1 s, and a has 5. Then a, which has 95 left, and b1 have 10 each. b1 is
    # done at 7 s, and a has its NIC for the other 35.
    assert forecast(nodes, 20) == pytest.approx({"b0": 1, "b1": 7, "a": 7 + 35 / 15})


def test_a_faster_nic_takes_from_others_at_the_egress_and_may_make_them_later() -> None:
    def ends(nic_a: float) -> dict[str, float]:
        return forecast([nic(nic_a, flow("a", 20, "a")), nic(10, flow("b", 40, "b"))], 10)

    # With 2 for a, b has 8 and is done at 5 s. With 8, both have 5: a is done at 4 s, and b has 20
    # left, at 10. Fair shares are no promise of progress: only deadlines are.
    assert ends(2) == pytest.approx({"a": 10, "b": 5})
    assert ends(8) == pytest.approx({"a": 4, "b": 6})


@given(networks())
def test_flows_end_when_the_simulation_says(some: SomeNetwork) -> None:
    simulated = simulate(some.nodes, some.egress_bytes_per_s)

    expected = {id_: float(end_s) for id_, end_s in simulated.items()}
    assert ends_of(some) == pytest.approx(expected, rel=1e-9)


@given(networks())
def test_an_egress_that_suffices_changes_nothing(some: SomeNetwork) -> None:
    enough = sum(node.nic_bytes_per_s for node in some.nodes.values())

    assert ends_of(replace(some, egress_bytes_per_s=enough)) == ends_of(
        replace(some, egress_bytes_per_s=None)
    )


@given(networks())
def test_the_loop_over_ends_agrees_with_the_sum_where_the_nics_are_the_limit(
    some: SomeNetwork,
) -> None:
    nodes = [node for node in some.nodes.values() if node.interactive]
    members = [SharingNode(node.nic_bytes_per_s, node.remaining_bytes.tolist()) for node in nodes]

    sharing = EgressSharing(1e6)
    sharing.join(members)
    sharing.run()

    for node, member in zip(nodes, members, strict=True):
        assert member.ends_s == pytest.approx(node.ends_s.tolist())


@given(networks())
def test_bytes_are_conserved(some: SomeNetwork) -> None:
    members = [
        SharingNode(node.nic_bytes_per_s, node.remaining_bytes.tolist())
        for node in some.nodes.values()
        if node.interactive
    ]
    sharing = EgressSharing(some.egress_bytes_per_s or 1e6)
    sharing.join(members)
    sharing.run()

    steps = sharing.used_bytes_per_s
    carried = sum(used * (until_s - at_s) for (at_s, used), (until_s, _) in pairwise(steps))
    assert carried == pytest.approx(sum(sum(member.remaining_bytes) for member in members))
    assert steps[-1][1] == 0
    assert all(0 <= used <= sharing.capacity_bytes_per_s for _, used in steps)


@given(networks())
def test_background_never_slows_interactive(some: SomeNetwork) -> None:
    alone = {id_: replace(node, flows=node.interactive) for id_, node in some.nodes.items()}

    ends_s, alone_s = ends_of(some), ends_of(replace(some, nodes=alone))

    assert {id_: ends_s[id_] for id_ in alone_s} == pytest.approx(alone_s)


@given(networks(), st.floats(1, 4))
def test_more_egress_makes_no_interactive_flow_later(some: SomeNetwork, factor: float) -> None:
    before = interactive_forecast(list(some.nodes.values()), some.egress_bytes_per_s)
    egress = None if some.egress_bytes_per_s is None else some.egress_bytes_per_s * factor

    after = interactive_forecast(list(some.nodes.values()), egress)

    assert all(after[id_] <= end_s + 1e-9 for id_, end_s in before.items())


@given(networks(), st.floats(1, 4))
def test_a_faster_nic_makes_no_flow_of_its_node_later(some: SomeNetwork, factor: float) -> None:
    node = some.nodes["a"]
    faster = replace(some, nodes={**some.nodes, "a": _faster(node, factor)})

    before, after = ends_of(some), ends_of(faster)

    own = [flow_.fetch_id for flow_ in node.interactive]
    assert all(after[id_] <= before[id_] + 1e-9 for id_ in own)


@given(networks(), st.floats(1, 4))
def test_faster_links_everywhere_make_every_flow_sooner(some: SomeNetwork, factor: float) -> None:
    nodes = {id_: _faster(node, factor) for id_, node in some.nodes.items()}
    egress = None if some.egress_bytes_per_s is None else some.egress_bytes_per_s * factor

    after = ends_of(SomeNetwork(nodes, egress))

    expected = {id_: end_s / factor for id_, end_s in ends_of(some).items()}
    assert after == pytest.approx(expected)


def _faster(node: NodeFlows, factor: float) -> NodeFlows:
    return replace(node, nic_bytes_per_s=node.nic_bytes_per_s * factor)
