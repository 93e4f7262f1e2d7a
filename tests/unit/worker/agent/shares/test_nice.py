"""Nice values that stand for weights, and who may lower them."""

import errno
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.agent.shares.cpu_shares import CpuShare
from services.worker.agent.shares.nice import NiceShares
from services.worker.agent.shares.nice_values import MAX_NICE, STEP, process_nice, relative_nice

WORKERS = st.dictionaries(st.sampled_from("abcdef"), st.floats(1e-6, 1.0), min_size=1)


@pytest.mark.parametrize(
    ("weight", "nice"),
    [
        (1.0, 0),
        (0.8, 1),  # 1 / 1.25
        (0.5, 3),  # 1.25^3 = 1.95
        (1 / 3, 5),  # 1.25^5 = 3.05
        (0.25, 6),  # 1.25^6 = 3.81
        (0.1, 10),  # 1.25^10 = 9.31
        (0.0144, 19),  # 1.25^19 = 69.4
        (0.0001, 19),
    ],
)
def test_a_step_is_a_factor_of_one_and_a_quarter(weight: float, nice: int) -> None:
    assert relative_nice({"largest": 1.0, "other": weight}) == {"largest": 0, "other": nice}


def test_only_ratios_count() -> None:
    assert relative_nice({"a": 0.03, "b": 0.01}) == {"a": 0, "b": 5}
    assert relative_nice({"alone": 0.01}) == {"alone": 0}
    assert relative_nice({}) == {}


@given(WORKERS)
def test_ratios_are_kept_within_half_a_step(weights: Mapping[str, float]) -> None:
    nice, largest = relative_nice(weights), max(weights.values())
    for worker, value in nice.items():
        wanted = largest / weights[worker]
        if value < MAX_NICE:
            assert STEP ** (value - 0.5) <= wanted * 1.001 and wanted <= STEP ** (value + 0.501)
        else:
            assert wanted >= STEP**18.49


def test_who_may_lower_values_begins_where_the_agent_is() -> None:
    values = process_nice({"a": 0, "b": 5}, {"a": 3, "b": 9}, own_nice=2, can_lower=True)
    assert values == {"a": 2, "b": 7}


def test_who_may_not_lower_them_raises_the_others() -> None:
    # b has 5 and can never have 4 again: a and c are raised by 5, so that all are as they should.
    values = process_nice({"a": 0, "b": 0, "c": 3}, {"a": 0, "b": 5}, own_nice=0, can_lower=False)
    assert values == {"a": 5, "b": 5, "c": 8}


@given(WORKERS, WORKERS, st.integers(0, 5))
def test_without_the_privilege_nothing_is_lowered_and_ratios_hold_as_far_as_nineteen_allows(
    first: Mapping[str, float], then: Mapping[str, float], own_nice: int
) -> None:
    current = process_nice(relative_nice(first), {}, own_nice, can_lower=False)
    relative = relative_nice(then)

    values = process_nice(relative, current, own_nice, can_lower=False)

    assert all(values[i] >= current.get(i, own_nice) for i in values)
    base = min(values[i] - relative[i] for i in values if relative[i] == 0)
    assert all(values[i] == min(MAX_NICE, base + relative[i]) for i in values)


def share(worker_id: str, weight: float) -> CpuShare:
    return CpuShare(worker_id, ord(worker_id), weight, cap_cores=1.0)


class Kernel:
    """Nice values by process id; raises what it is told to."""

    def __init__(self, *, can_lower: bool = True) -> None:
        self.nice: dict[int, int] = {}
        self.errors: list[OSError] = []
        self.num_calls = 0
        self._can_lower = can_lower

    def set(self, pid: int, nice: int) -> None:
        self.num_calls += 1
        if self.errors:
            raise self.errors.pop()
        if not self._can_lower and nice < self.nice.get(pid, 0):
            raise PermissionError(errno.EACCES, "only root")
        self.nice[pid] = nice

    def of(self, worker_id: str) -> int:
        return self.nice.get(ord(worker_id), 0)


def test_what_is_as_it_should_be_is_not_set_again() -> None:
    groups, sessions = Kernel(), Kernel()
    shares = NiceShares(groups.set, sessions.set, own_nice=0)

    for _ in range(3):
        shares.apply([share("a", 0.75), share("b", 0.25)])

    assert (groups.of("a"), groups.of("b"), groups.num_calls) == (0, 5, 1)
    assert (sessions.of("a"), sessions.of("b"), sessions.num_calls) == (0, 5, 1)


def test_values_change_with_the_reservations() -> None:
    groups, sessions = Kernel(), Kernel()
    shares = NiceShares(groups.set, sessions.set, own_nice=0)

    shares.apply([share("a", 0.75), share("b", 0.25)])
    shares.apply([share("a", 0.25), share("b", 0.75)])

    assert (groups.of("a"), groups.of("b")) == (5, 0)
    assert (sessions.of("a"), sessions.of("b")) == (5, 0)


def test_without_the_privilege_to_lower_them_a_newcomer_joins_those_that_were_raised() -> None:
    groups, sessions = Kernel(can_lower=False), Kernel()
    shares = NiceShares(groups.set, sessions.set, own_nice=0)
    shares.apply([share("a", 0.75), share("b", 0.25)])

    shares.apply([share("b", 0.25), share("c", 0.25)])  # a, the largest, has ended

    assert (groups.of("b"), groups.of("c")) == (5, 5)
    assert (sessions.of("b"), sessions.of("c")) == (0, 0)  # these anybody may lower


def test_what_the_kernel_puts_off_is_done_the_next_time() -> None:
    groups, sessions = Kernel(), Kernel()
    sessions.errors.append(BlockingIOError(errno.EAGAIN, "too many a second"))
    shares = NiceShares(groups.set, sessions.set, own_nice=0)

    shares.apply([share("a", 0.75), share("b", 0.25)])
    assert sessions.of("b") == 0
    shares.apply([share("a", 0.75), share("b", 0.25)])

    assert sessions.of("b") == 5


def test_a_worker_that_has_ended_costs_the_others_nothing() -> None:
    groups, sessions = Kernel(), Kernel()
    groups.errors.append(ProcessLookupError(errno.ESRCH, "gone"))
    shares = NiceShares(groups.set, sessions.set, own_nice=0)

    shares.apply([share("a", 0.75), share("b", 0.25), share("c", 0.25)])

    assert groups.of("c") == 5
