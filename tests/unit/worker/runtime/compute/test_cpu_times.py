"""What the kernel says, as it says it, and of this very process."""

import os
import threading
import time
from pathlib import Path

import pytest

from services.worker.runtime.compute.cpu_times import ThreadTime, read_idle_s, read_thread_times

STAT = """cpu  40 0 40 700 100 0 0 0 0 0
cpu0 10 0 10 300 20 0 0 0 0 0
cpu1 10 0 10 200 30 0 0 0 0 0
cpu10 10 0 10 100 50 0 0 0 0 0
intr 12345 1 2 3
"""


def test_threads_are_read_by_their_ids(tmp_path: Path) -> None:
    for thread, text in (("7", "1000 200 3\n"), ("9", "5 6 7\n"), ("11", "no numbers\n")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    (tmp_path / "13").mkdir()  # of a kernel, or a moment, without

    assert read_thread_times(tmp_path) == {7: ThreadTime(1000, 200), 9: ThreadTime(5, 6)}


def test_idle_time_is_added_up_over_the_cores_that_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)
    ticks_per_s = os.sysconf("SC_CLK_TCK")

    assert read_idle_s({0, 10}, tmp_path / "stat") == (320 + 150) / ticks_per_s
    assert read_idle_s({1}, tmp_path / "stat") == 230 / ticks_per_s
    assert read_idle_s({99}, tmp_path / "stat") is None
    assert read_idle_s({0}, tmp_path / "nothing") is None


def test_a_thread_that_computes_is_seen_to_run() -> None:
    thread = threading.get_native_id()
    before = read_thread_times().get(thread)
    if before is None:
        pytest.skip("this kernel counts no thread's time")

    used_s = time.thread_time()
    while time.thread_time() - used_s < 0.05:
        pass

    grown_ns = read_thread_times()[thread].run_ns - before.run_ns
    assert grown_ns >= 0.04e9
