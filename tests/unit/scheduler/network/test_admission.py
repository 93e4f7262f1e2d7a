"""Who may come without making others late: by hand, and against a slow simulation."""

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from services.scheduler.policy.network.admission import Admission, admits
from services.scheduler.policy.network.flow import EPSILON_S, Flow
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.node_flows import NodeFlows
from tests.unit.scheduler.network.fluid_simulation import simulate
from tests.unit.scheduler.network.random_networks import (
    BACKGROUND,
    NOW_S,
    SomeNetwork,
    flow,
    networks,
    newcomers,
    nic,
)


def judged(
    node: NodeFlows, *new: Flow, now_s: float = NOW_S, egress: float | None = None
) -> Admission:
    return admits(Network.of({"a": node}, egress), new, now_s)


# One flow with 500 bytes left over a NIC of 100: with a newcomer of B bytes it is done after
# 5 + min(B, 500) / 100 seconds.
@pytest.mark.parametrize(
    ("left_s", "new_bytes", "is_admitted", "why"),
    [
        (8, 300, True, "done at 8 s"),
        (8, 301, False, "done at 8.01 s"),
        (9.99, 10_000, False, "it shares until it is done, at 10 s"),
        (10, 10_000, True, "done at 10 s, whatever comes after"),
        (4.99, 10_000, True, "too late even if nobody comes"),
        (5, 1, False, "in time only if nobody comes"),
        (None, 10_000, True, "it has no deadline"),
    ],
)
def test_a_newcomer_may_delay_others_up_to_their_deadlines(
    left_s: float | None, new_bytes: int, is_admitted: bool, why: str
) -> None:
    there = nic(100, flow("there", 500, left_s=left_s))

    answer = judged(there, flow("new", new_bytes))

    assert answer.is_admitted is is_admitted, why
    assert answer.made_late == (() if is_admitted else ("there",))


def test_the_newcomer_is_judged_and_its_caller_decides() -> None:
    there = nic(100, flow("there", 500, left_s=60))

    # 300 + 300 of 100 per second.
    assert judged(there, flow("new", 300, left_s=6)) == Admission({"new": NOW_S + 6}, (), ())
    assert judged(there, flow("new", 300, left_s=5.9)) == Admission(
        {"new": NOW_S + 6}, (), ("new",)
    )


def test_a_flow_that_is_late_because_of_others_is_protected_until_it_is_lost() -> None:
    # Together they are done at 10 s. Alone each takes 5 s: with 8 s left, the first could be in
    # time if the second were cancelled. Once less than 5 s are left it is late for certain.
    there = nic(100, flow("first", 500, left_s=8), flow("second", 500))
    new = flow("new", 100)

    assert judged(there, new).made_late == ("first",)
    assert judged(there, new, now_s=NOW_S + 2.9).made_late == ("first",)
    assert judged(there, new, now_s=NOW_S + 3.1).is_admitted


def test_background_flows_keep_nobody_away_and_do_not_slow_the_newcomer() -> None:
    there = nic(100, flow("there", 500, left_s=5, fetch_class=BACKGROUND))

    assert judged(there, flow("new", 1000)) == Admission({"new": NOW_S + 10}, (), ())


def test_a_plan_with_two_stages_on_one_node_brings_both_at_once() -> None:
    there = nic(100, flow("there", 500, left_s=10))
    stages = [flow("new0", 300), flow("new1", 200)]

    # `there` is done when all 1000 are: in time. With one byte more it is not. The stages have a
    # third of the NIC each: the first ends at 6 s, the second with 500 + 300 at 8 s.
    answer = judged(there, *stages)
    assert answer.is_admitted
    assert answer.done_at_s == {"new1": NOW_S + 6, "new0": NOW_S + 8}
    assert not judged(there, *stages, flow("new2", 1)).is_admitted


def test_at_the_egress_a_newcomer_on_one_node_delays_those_on_others() -> None:
    # Both NICs could carry 100, the store 120. Alone `far` takes 5 s. With a newcomer on the other
    # node both have 60: `far` is done at 8.33 s.
    far, idle = nic(100, flow("far", 500, "b", left_s=8)), nic(100)
    network = Network.of({"a": idle, "b": far}, egress_bytes_per_s=120)

    assert admits(network, [flow("new", 1000)], NOW_S).made_late == ("far",)
    # With 150 bytes it is gone at 2.5 s, like 150 of `far`, whose other 350 take 3.5 s.
    assert admits(network, [flow("new", 150)], NOW_S).is_admitted
    assert admits(network.with_egress(None), [flow("new", 1000)], NOW_S).is_admitted


def test_a_flow_that_is_late_elsewhere_keeps_nobody_away_whom_it_does_not_meet() -> None:
    # The egress suffices for `far` beside anybody: its own NIC is the limit.
    far = nic(10, flow("far", 100, "b", left_s=12), flow("other", 100, "b"))
    network = Network.of({"a": nic(100), "b": far}, egress_bytes_per_s=50)

    assert admits(network, [flow("new", 1000)], NOW_S).is_admitted


def test_what_is_cached_already_disturbs_nobody() -> None:
    there = nic(100, flow("there", 500, left_s=5))

    assert judged(there, flow("new", 0, left_s=0)) == Admission({"new": NOW_S}, (), ())


def test_of_ten_starts_that_want_one_nic_as_many_are_admitted_as_make_it() -> None:
    # 500 bytes each over 100 per second, all due in 25 s: five are done at 25 s exactly, six would
    # be at 30 s.
    starts = [flow(f"start-{i}", 500, left_s=25) for i in range(10)]

    admitted = _admit_one_by_one(nic(100), starts)

    assert [start.fetch_id for start in admitted] == [f"start-{i}" for i in range(5)]
    assert set(simulate({"a": nic(100, *admitted)}, None).values()) == {25}


def test_of_starts_with_deadlines_of_their_own_the_one_that_does_not_fit_is_left_out() -> None:
    # 100 bytes per second. In this order: 200 bytes due in 4 s; 300 due in 10 s, of which the first
    # sees 200: done at 4 s; 100 more would make the first late; 600 due in 11 s, too.
    starts = [
        flow("first", 200, left_s=4),
        flow("second", 300, left_s=10),
        flow("third", 100, left_s=20),
        flow("fourth", 600, left_s=11),
    ]

    assert _admit_one_by_one(nic(100), starts) == starts[:2]


@given(
    st.integers(1, 20), st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60)), max_size=10)
)
def test_whoever_is_admitted_makes_it_and_whoever_is_not_would_break_a_deadline(
    rate: int, starts: list[tuple[int, int]]
) -> None:
    wanted = [flow(f"s{i}", size, left_s=left_s) for i, (size, left_s) in enumerate(starts)]

    admitted = _admit_one_by_one(nic(rate), wanted)

    assert not _late({"a": nic(rate, *admitted)}, None)
    for refused in [start for start in wanted if start not in admitted]:
        sooner = [start for start in admitted if wanted.index(start) < wanted.index(refused)]
        assert _late({"a": nic(rate, *sooner, refused)}, None)


@given(networks(), st.data())
def test_no_newcomer_breaks_a_deadline_and_none_is_refused_without_need(
    some: SomeNetwork, data: st.DataObject
) -> None:
    new = data.draw(newcomers(sorted(some.nodes)))
    before = simulate(some.nodes, some.egress_bytes_per_s)
    together = some.with_flows(new)
    after = simulate(together.nodes, some.egress_bytes_per_s)

    answer = admits(some.network, new, NOW_S)

    event("admitted" if answer.is_admitted else "refused")
    made_late = [
        known.fetch_id
        for known in some.flows
        if known.is_interactive
        and _is_late(known, after[known.fetch_id])
        and after[known.fetch_id] > before[known.fetch_id] + Fraction(EPSILON_S)
        and not _is_late(known, _alone(some, known))
    ]
    assert list(answer.made_late) == sorted(made_late)
    in_time = [known for known in some.flows if not _is_late(known, before[known.fetch_id])]
    if answer.is_admitted:
        still = [known for known in in_time if known.is_interactive]
        assert not any(_is_late(known, after[known.fetch_id]) for known in still)
    expected = {flow_.fetch_id: NOW_S + float(after[flow_.fetch_id]) for flow_ in new}
    assert answer.done_at_s == pytest.approx(expected)
    assert list(answer.late) == [f.fetch_id for f in new if _is_late(f, after[f.fetch_id])]


def _admit_one_by_one(node: NodeFlows, starts: Sequence[Flow]) -> list[Flow]:
    """Each comes if nobody there becomes late, and if it is in time itself."""
    network, admitted = Network.of({"a": node}), []
    for start in starts:
        answer = admits(network, [start], NOW_S)
        if answer.is_admitted and not answer.late:
            admitted.append(start)
            network = network.with_flows([start])
    return admitted


def _alone(some: SomeNetwork, known: Flow) -> Fraction:
    rate = some.nodes[known.node_id].nic_bytes_per_s
    return simulate({known.node_id: nic(rate, known)}, some.egress_bytes_per_s)[known.fetch_id]


def _is_late(known: Flow, end_s: Fraction) -> bool:
    if known.deadline_s is None:
        return False
    return end_s > Fraction(known.deadline_s) - Fraction(NOW_S) + Fraction(EPSILON_S)


def _late(nodes: dict[str, NodeFlows], egress: float | None) -> list[str]:
    ends_s = simulate(nodes, egress)
    flows = (known for node in nodes.values() for known in node.flows)
    return [known.fetch_id for known in flows if _is_late(known, ends_s[known.fetch_id])]
