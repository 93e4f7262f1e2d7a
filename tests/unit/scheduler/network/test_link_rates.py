"""What links carry, learnt from the throughput of nodes: worked out by hand."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.states import FetchState
from services.scheduler.policy.network.link_rates import LinkRates, Throughput
from services.scheduler.policy.nodes.node import UNCAPPED_BYTES_PER_S
from tests.unit.scheduler.values import fetch, fetcher_heartbeat


def shown(*rates: float, cap: int = 100) -> list[Throughput]:
    """Of nodes a, b, c, ... at one moment."""
    names = "abcdefgh"
    return [Throughput(names[i], rate, cap) for i, rate in enumerate(rates)]


def after(*moments: Sequence[Throughput], rates: LinkRates | None = None) -> LinkRates:
    rates = rates or LinkRates()
    for moment in moments:
        rates = rates.after(moment)
    return rates


def test_before_anything_is_measured_a_nic_has_its_cap_or_what_is_assumed() -> None:
    assert LinkRates().nic_bytes_per_s("a", 100) == 100
    assert LinkRates().nic_bytes_per_s("a", 0) == UNCAPPED_BYTES_PER_S


def test_several_nodes_below_their_nics_show_the_egress_and_nothing_else() -> None:
    # Each could have 100; together they have 40 + 50 + 60.
    learnt = after(shown(40, 50, 60))

    assert learnt.egress_bytes_per_s == 150
    assert learnt.nic_bytes_per_s("a", 100) == 100


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        (shown(40, 50), "two may be slow by chance"),
        (shown(40, 50, 90), "so may two of three"),
        (shown(95, 85, 99), "the NICs are the limit"),
        (shown(40, 50, 60, cap=0), "of these NICs nothing is known"),
    ],
)
def test_fewer_nodes_below_their_nics_show_no_egress(
    moment: Sequence[Throughput], why: str
) -> None:
    assert after(moment).egress_bytes_per_s is None, why


def test_what_was_reached_beyond_the_learnt_egress_is_believed_at_once() -> None:
    learnt = after(shown(40, 50, 60), shown(100, 100))

    # 200 weighs 1; 150 weighs 0.85, and 0.7225 as what came before it: 1.57 of 2.57 is below 0.9.
    assert learnt.egress_bytes_per_s == 200


def test_one_slow_moment_does_not_make_the_egress_slow() -> None:
    learnt = after(*[shown(40, 50, 60)] * 5, shown(1, 1, 1))

    # 3 weighs 1 of all, the others more than 4.
    assert learnt.egress_bytes_per_s == 150


def test_a_configured_egress_is_not_learnt() -> None:
    assert after(shown(1, 1, 1), rates=LinkRates(500.0)).egress_bytes_per_s == 500


def test_a_nic_that_is_slow_by_itself_is_believed_after_some_seconds() -> None:
    # n values of 50 over a cap of 100, which weighs 0.85^n: that is less than a tenth of all from
    # the sixth value on (0.377 of 4.53; after five 0.444 of 4.15).
    learnt = [after(*[shown(50)] * n).nic_bytes_per_s("a", 100) for n in range(8)]

    assert learnt == [100, 100, 100, 100, 100, 100, 50, 50]


def test_a_nic_without_a_cap_carries_what_it_has_shown() -> None:
    assert after(*[shown(300.0, cap=0)] * 6).nic_bytes_per_s("a", 0) == 300
    # What it shows more counts at once: it weighs 1 of less than 6.7, more than a tenth.
    assert after(*[shown(300.0, cap=0)] * 6, shown(400.0, cap=0)).nic_bytes_per_s("a", 0) == 400


def test_a_nic_never_carries_more_than_its_cap() -> None:
    assert after(*[shown(110)] * 9).nic_bytes_per_s("a", 100) == 100  # a burst


def test_once_a_nic_without_a_cap_is_known_it_may_show_the_egress() -> None:
    alone = [[Throughput(name, 300.0, 0)] for name in "abc"] * 6

    together = after(*alone, shown(100, 100, 100, cap=0))

    assert together.egress_bytes_per_s == 300
    assert together.nic_bytes_per_s("a", 0) == 300


def test_a_node_is_forgotten() -> None:
    learnt = after(*[shown(50)] * 6).without("a").without("nobody")

    assert learnt.nic_bytes_per_s("a", 100) == 100


def test_only_nodes_whose_bytes_arrive_show_anything() -> None:
    fetching = fetch(FetchState.FETCHING)

    assert Throughput.of(fetcher_heartbeat(fetching, measured_bytes_per_s=50.0)) == Throughput(
        "node-1", 50.0, 1000
    )
    assert Throughput.of(fetcher_heartbeat(fetching)) is None
    done = fetch(FetchState.COMPLETE)
    assert Throughput.of(fetcher_heartbeat(done, measured_bytes_per_s=50.0)) is None


@given(
    st.lists(st.lists(st.floats(1, 200), min_size=1, max_size=8), max_size=12),
    st.integers(50, 150),
)
def test_rates_stay_between_what_was_shown_and_the_caps(
    moments: list[list[float]], cap: int
) -> None:
    learnt = after(*(shown(*moment, cap=cap) for moment in moments))

    shown_rates = [rate for moment in moments for rate in moment]
    for name in "abcdefgh":
        rate = learnt.nic_bytes_per_s(name, cap)
        assert min([*shown_rates, cap]) <= rate <= cap
    egress = learnt.egress_bytes_per_s
    assert egress is None or egress in [sum(moment) for moment in moments]
