"""Max-min fair rates, worked out by hand and against progressive filling link by link."""

from collections import defaultdict
from math import inf

import numpy as np
import pytest
from hypothesis import given

from services.scheduler.policy.network.fair_sharing import egress_level, flow_rates
from tests.unit.scheduler.network.fluid_simulation import capacities_of, rates_by_class
from tests.unit.scheduler.network.random_networks import (
    BACKGROUND,
    SomeNetwork,
    flow,
    networks,
    nic,
)

A_NIC_OF_2 = nic(2, flow("a", 100, "a"))
B_NIC_OF_10 = nic(10, flow("b", 100, "b"))
C_NIC_OF_9 = nic(9, *(flow(f"c{i}", 100, "c") for i in range(3)))  # 3 each
NODES = [A_NIC_OF_2, B_NIC_OF_10, C_NIC_OF_9]


@pytest.mark.parametrize(
    ("egress", "a", "b", "c", "why"),
    [
        (None, 2, 10, 3, "the NICs alone"),
        (30, 2, 10, 3, "the NICs use 21"),
        (5, 1, 1, 1, "5 flows, no NIC is full"),
        # 12 / 5 = 2.4: NIC a is full with 2. The other 4 flows have 10 / 4.
        (12, 2, 2.5, 2.5, "one NIC is full"),
        # 15: a is full, and 13 / 4 = 3.25 fills NIC c, too. The last flow has 15 - 2 - 9.
        (15, 2, 4, 3, "two NICs are full"),
    ],
)
def test_no_flow_gets_more_while_one_that_has_less_could_have_it(
    egress: float | None, a: float, b: float, c: float, why: str
) -> None:
    expected = {"a": a, "b": b, "c0": c, "c1": c, "c2": c}

    assert flow_rates(NODES, egress) == pytest.approx(expected), why


def test_background_flows_share_what_interactive_ones_leave() -> None:
    # Interactive flows use 21 of 30; 9 are left, and NIC d could carry 20.
    quiet = nic(20, *(flow(f"d{i}", 50, "d", fetch_class=BACKGROUND) for i in range(2)))
    busy = nic(10, flow("b", 100, "b"), flow("b1", 5, "b", fetch_class=BACKGROUND))

    rates = flow_rates([A_NIC_OF_2, busy, C_NIC_OF_9, quiet], 30)

    assert rates["b"] == 10
    assert (rates["d0"], rates["d1"], rates["b1"]) == (4.5, 4.5, 0)


def test_the_level_counts_flows_that_no_nic_holds_back() -> None:
    nics, counts = np.array([2.0, 10.0]), np.array([1.0, 1.0])

    # 9 / 3 = 3 is more than NIC a has: it is full, and 7 are for two.
    assert egress_level(9, nics, counts, num_more=1) == 3.5
    assert egress_level(100, nics, counts, num_more=1) == 88  # all that the NICs leave
    assert egress_level(100, nics, counts) == inf
    assert egress_level(8, np.zeros(0), np.zeros(0), num_more=2) == 4


@given(networks())
def test_rates_are_those_of_progressive_filling_link_by_link(some: SomeNetwork) -> None:
    expected = rates_by_class(some.flows, capacities_of(some.nodes, some.egress_bytes_per_s))

    rates = flow_rates(list(some.nodes.values()), some.egress_bytes_per_s)

    assert rates == pytest.approx({id_: float(rate) for id_, rate in expected.items()}, abs=1e-9)


@given(networks())
def test_no_link_carries_more_than_it_can(some: SomeNetwork) -> None:
    rates = flow_rates(list(some.nodes.values()), some.egress_bytes_per_s)

    carried: defaultdict[str, float] = defaultdict(float)
    for flow_ in some.flows:
        carried[flow_.node_id] += rates[flow_.fetch_id]
    assert all(carried[id_] <= node.nic_bytes_per_s + 1e-9 for id_, node in some.nodes.items())
    assert sum(rates.values()) <= (some.egress_bytes_per_s or inf) + 1e-9
