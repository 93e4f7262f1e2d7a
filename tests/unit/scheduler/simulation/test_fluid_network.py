from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.states import FetchClass
from services.scheduler.simulation.cluster.fluid_network import FluidNetwork
from services.scheduler.simulation.event_queue import EventQueue

BACKGROUND = FetchClass.BACKGROUND


class Watched:
    """A network, and when each fetch had its last byte."""

    def __init__(self, nics: dict[str, float], egress: float = inf) -> None:
        self.events = EventQueue()
        self.network = FluidNetwork(self.events, nics, egress)
        self.done_s: dict[str, float] = {}

    def start(self, name: str, node_id: str, size: float, **how: FetchClass) -> None:
        def done() -> None:
            self.done_s[name] = self.events.now_s

        self.flow = self.network.start(node_id, size, done, **how)


def test_two_fetches_of_a_node_share_its_network_equally() -> None:
    """100 B/s. A alone has 100 of its 200 B by 1 s; then both have 50 B/s: A's last 100 B take 2 s.
    B has 100 of 300 B by then and gets 100 B/s: 2 s more."""
    net = Watched({"n": 100.0})
    net.start("a", "n", 200)
    net.events.run_until(1.0)
    net.start("b", "n", 300)
    net.events.run_until(100.0)
    assert net.done_s == {"a": pytest.approx(3.0), "b": pytest.approx(5.0)}


def test_nodes_do_not_disturb_each_other_while_the_store_has_enough() -> None:
    net = Watched({"n": 100.0, "m": 50.0}, egress=150.0)
    net.start("a", "n", 200)
    net.start("b", "m", 200)
    net.events.run_until(100.0)
    assert net.done_s == {"a": pytest.approx(2.0), "b": pytest.approx(4.0)}


def test_the_stores_egress_is_shared_max_min() -> None:
    """90 B/s for a node of 20 B/s and one of 100 B/s with two fetches: the slow node has its 20,
    and 70 are left for the two. C and B get 35 each: B's 70 B take 2 s; C has 70 of 140 B then and
    gets 70 B/s: 1 s more. A takes 100 B / 20 = 5 s."""
    net = Watched({"slow": 20.0, "fast": 100.0}, egress=90.0)
    net.start("a", "slow", 100)
    net.start("b", "fast", 70)
    net.start("c", "fast", 140)
    net.events.run_until(100.0)
    expected = {"a": 5.0, "b": 2.0, "c": 3.0}
    assert net.done_s == {name: pytest.approx(at_s) for name, at_s in expected.items()}


def test_background_gets_what_interactive_leaves() -> None:
    """At a node of 100 B/s the background fetch stands still for the 2 s of the interactive one,
    then needs 1 s."""
    net = Watched({"n": 100.0})
    net.start("background", "n", 100, fetch_class=BACKGROUND)
    net.start("interactive", "n", 200)
    net.events.run_until(100.0)
    assert net.done_s == {"interactive": pytest.approx(2.0), "background": pytest.approx(3.0)}


def test_background_has_what_is_left_of_the_egress() -> None:
    """Of 120 B/s the interactive fetch takes its node's 100; 20 are left for the other node."""
    net = Watched({"n": 100.0, "m": 100.0}, egress=120.0)
    net.start("interactive", "n", 1000)
    net.start("background", "m", 1000, fetch_class=BACKGROUND)
    assert net.network.rate_bytes_per_s("m", BACKGROUND) == pytest.approx(20.0)


def test_a_cancelled_fetch_leaves_its_share_and_never_ends() -> None:
    """A and B have 50 B/s each for 1 s; then A alone has 100 for its other 150 B."""
    net = Watched({"n": 100.0})
    net.start("a", "n", 200)
    net.start("b", "n", 200)
    net.events.run_until(1.0)
    assert net.network.done_bytes(net.flow) == pytest.approx(50.0)
    net.network.cancel(net.flow)
    net.events.run_until(100.0)
    assert net.done_s == {"a": pytest.approx(2.5)}


def test_a_fetch_of_nothing_ends_at_once() -> None:
    net = Watched({"n": 100.0})
    net.start("a", "n", 0)
    net.events.run_until(0.0)
    assert net.done_s == {"a": 0.0}


fetches = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(1, 1000),
        st.floats(0, 20),
        st.sampled_from(list(FetchClass)),
    ),
    min_size=1,
    max_size=12,
)


@given(fetches, st.sampled_from([inf, 60.0, 150.0]))
def test_every_fetch_ends_and_nothing_is_faster_than_its_links(
    plan: list[tuple[int, int, float, FetchClass]], egress: float
) -> None:
    nics = {"0": 10.0, "1": 50.0, "2": 200.0}
    net = Watched(nics, egress)
    for number, (node, size, at_s, fetch_class) in enumerate(sorted(plan, key=lambda p: p[2])):
        net.events.run_until(at_s)
        net.start(str(number), str(node), size, fetch_class=fetch_class)
        total = 0.0
        for node_id, nic in nics.items():
            own = sum(
                group[node_id].rate_bytes_per_s * group[node_id].num_flows
                for group in net.network._groups.values()
                if node_id in group
            )
            assert own <= nic * (1 + 1e-9)
            total += own
        assert total <= egress * (1 + 1e-9)
    net.events.run_until(1e6)
    assert len(net.done_s) == len(plan)
    last_s = max(net.done_s.values())
    assert last_s >= sum(size for _, size, _, _ in plan) / min(egress, sum(nics.values())) - 1e-6
