"""The monitor in a thread that computes, with the kernel's own figures."""

import time

import pytest

from services.worker.runtime.compute.compute_monitor import ComputeMonitor
from services.worker.runtime.compute.cpu_times import read_thread_times


def compute_until_measured(monitor: ComputeMonitor) -> None:
    deadline_s = time.monotonic() + 10
    while monitor.demand is None:
        monitor.between_steps()
        assert time.monotonic() < deadline_s, "nothing was measured"


def test_until_it_begins_it_says_and_does_nothing() -> None:
    monitor = ComputeMonitor()

    monitor.between_steps()

    assert (monitor.share, monitor.demand) == (None, None)


def test_a_busy_thread_is_measured_and_gets_no_thread_beyond_the_most() -> None:
    if not read_thread_times():
        pytest.skip("this kernel counts no thread's time")
    monitor, counts = ComputeMonitor(), list[int]()
    monitor.begin(1, 2, counts.append)

    compute_until_measured(monitor)

    assert monitor.share is not None and 0 < monitor.share <= 1
    assert monitor.demand is not None and monitor.demand > 0.1  # of two cores it wanted one
    assert set(counts) <= {2}


def test_with_one_number_of_threads_none_is_ever_set() -> None:
    if not read_thread_times():
        pytest.skip("this kernel counts no thread's time")
    monitor, counts = ComputeMonitor(), list[int]()
    monitor.begin(2, 2, counts.append)

    compute_until_measured(monitor)

    assert counts == []
