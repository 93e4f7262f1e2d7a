"""Columns of what one more flow would get, against the same asked of one node at a time."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.network.admission import admits
from services.scheduler.policy.network.network import Network
from tests.unit.scheduler.network.fluid_simulation import (
    capacities_of,
    rates_by_class,
    simulate,
)
from tests.unit.scheduler.network.random_networks import (
    NOW_S,
    SomeNetwork,
    flow,
    networks,
    nic,
)

NETWORK = Network.of(
    {
        "a": nic(100, flow("a0", 500, "a", left_s=8)),
        "b": nic(100),
        "c": nic(60, flow("c0", 60, "c"), flow("c1", 300, "c")),
    }
)


def test_rates_are_equal_parts_of_the_nics_or_the_level_of_the_egress() -> None:
    assert NETWORK.one_more.rates_bytes_per_s.tolist() == [50, 100, 20]
    # 170 for four: a could carry 100, c 60 in 30 and 30. Of 42.5 each c has 30, so 110 are for two.
    at_egress = NETWORK.with_egress(170)
    assert at_egress.one_more.rates_bytes_per_s.tolist() == [50, 55, 20]
    # 80 for four: nobody's NIC is the limit but that of c, with three flows.
    assert NETWORK.with_egress(80).one_more.rates_bytes_per_s.tolist() == [20, 20, 20]


def test_seconds_count_that_others_end() -> None:
    # a: (300 + 300) / 100. b: 300 / 100. c: (60 + 300 + 300) / 60.
    assert NETWORK.one_more.seconds(300).tolist() == [6, 3, 11]
    # By node: nothing, 50 and 60 bytes.
    assert NETWORK.one_more.seconds(np.array([0, 50, 60])).tolist() == [0, 0.5, 3]
    # An egress of 200 suffices for the NICs of a and c. With b's it would not: a and the
    # newcomer have the 140 that c leaves, 70 each.
    found = NETWORK.with_egress(200).one_more.seconds(300)
    assert found.tolist() == pytest.approx([6, 300 / 70, 11])


def test_deadlines_are_kept_up_to_the_bytes_that_they_leave_room_for() -> None:
    one_more = NETWORK.one_more

    # a0 is done after 5 s, and has 8.
    assert one_more.keeps_deadlines(300, NOW_S).tolist() == [True, True, True]
    assert one_more.keeps_deadlines(301, NOW_S).tolist() == [False, True, True]
    assert one_more.keeps_deadlines(300, NOW_S + 0.1).tolist() == [False, True, True]
    assert one_more.keeps_deadlines(300, NOW_S + 3.1).tolist() == [True, True, True]  # a0 is lost
    assert one_more.keeps_deadlines(np.array([301, 1, 0]), NOW_S).tolist() == [False, True, True]


def test_what_brings_nothing_breaks_no_deadline() -> None:
    # The first would be late, but only because of the second: nobody may come any more.
    shared = nic(100, flow("first", 500, left_s=8), flow("second", 500))
    one_more = Network.of({"a": shared}).one_more

    assert one_more.keeps_deadlines(1, NOW_S).tolist() == [False]
    assert one_more.keeps_deadlines(0, NOW_S).tolist() == [True]


def test_of_nodes_that_nobody_knows_nothing_is_expected() -> None:
    network = NETWORK.changed({"b": None})

    assert network.one_more.rates_bytes_per_s.tolist() == [50, 0, 20]
    assert network.one_more.seconds(300).tolist() == [6, inf, 11]
    assert network.one_more.keeps_deadlines(300, NOW_S).tolist() == [True, False, True]
    assert Network.of({}).one_more.seconds(300).tolist() == []


@given(networks())
def test_the_rate_of_one_more_is_the_one_that_it_gets(some: SomeNetwork) -> None:
    column = some.network.one_more.rates_bytes_per_s

    for row, node_id in enumerate(sorted(some.nodes)):
        together = some.with_flows([flow("new", 100, node_id)])
        capacities = capacities_of(some.nodes, some.egress_bytes_per_s)
        rates = rates_by_class(together.flows, capacities)
        assert column[row] == pytest.approx(float(rates["new"]))


@given(networks(), st.integers(0, 200))
def test_the_seconds_of_one_more_are_exact_over_nics_and_never_too_few(
    some: SomeNetwork, num_bytes: int
) -> None:
    with_egress = some.network.one_more.seconds(num_bytes)
    over_nics = replace(some, egress_bytes_per_s=None).network.one_more.seconds(num_bytes)

    for row, node_id in enumerate(sorted(some.nodes)):
        if num_bytes:
            new = flow("new", num_bytes, node_id)
            nodes = some.with_flows([new]).nodes
            assert over_nics[row] == pytest.approx(float(simulate(nodes, None)["new"]))
            least_s = float(simulate(nodes, some.egress_bytes_per_s)["new"])
            assert with_egress[row] >= least_s - 1e-9
        else:
            assert with_egress[row] == over_nics[row] == 0


@given(networks(), st.integers(0, 200), st.integers(0, 30))
def test_without_an_egress_columns_and_admission_agree(
    some: SomeNetwork, num_bytes: int, waited_s: int
) -> None:
    network = replace(some, egress_bytes_per_s=None).network
    now_s = NOW_S + waited_s

    column = network.one_more.keeps_deadlines(num_bytes, now_s)

    for row, node_id in enumerate(sorted(some.nodes)):
        answer = admits(network, [flow("new", num_bytes, node_id)], now_s)
        assert column[row] == answer.is_admitted
