"""The limiter's file: shared by processes, robust against their deaths."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from libs.common.errors import NicRateLimiterError
from libs.common.network.nic_rate_limiter import NicRateLimiter

RATE = 20_000_000


class HandClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nic.ledger"


def test_what_one_took_the_other_waits_for(path: Path) -> None:
    clock = HandClock()
    first = NicRateLimiter.create(path, RATE, monotonic_s=clock)
    second = NicRateLimiter.attach(path, monotonic_s=clock)
    clock.now_s += 0.01

    assert first.take(RATE) == 0.0
    assert second.take(1) == pytest.approx(0.99)
    assert second.take(1, credit_s=1.0) == 0.0
    first.give_back(RATE)
    assert second.take(1) == 0.0


def test_a_fetcher_that_comes_back_sets_the_rate_for_those_who_stayed(path: Path) -> None:
    NicRateLimiter.create(path, RATE)
    worker = NicRateLimiter.attach(path)

    NicRateLimiter.create(path, 2 * RATE)

    assert worker.rate_bytes_per_s == 2 * RATE


@pytest.mark.parametrize("content", [None, b"", b"x" * 32, b"x" * 33])
def test_a_file_that_is_missing_or_foreign_is_refused(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(NicRateLimiterError, match=r"nic\.ledger"):
        NicRateLimiter.attach(path)


def test_without_a_limit_nobody_waits(path: Path) -> None:
    limiter = NicRateLimiter.create(path, 0)

    assert [limiter.take(10**12) for _ in range(3)] == [0.0] * 3


def test_a_holder_that_is_frozen_does_not_stop_the_node(path: Path) -> None:
    limiter = NicRateLimiter.create(path, 0)
    frozen = os.open(path, os.O_RDWR)
    fcntl.flock(frozen, fcntl.LOCK_EX)

    assert limiter.take(1) == 0.0

    os.close(frozen)


def test_threads_of_one_process_lose_no_update(path: Path) -> None:
    clock = HandClock()
    limiter = NicRateLimiter.create(path, RATE, monotonic_s=clock)

    def owe() -> None:
        for _ in range(1_000):
            limiter.take(RATE, credit_s=10**9)

    threads = [threading.Thread(target=owe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert limiter.take(1) == pytest.approx(4_000)


def test_two_processes_together_stay_within_the_rate(path: Path) -> None:
    NicRateLimiter.create(path, RATE)
    command = [sys.executable, "-m", "tests.unit.common.network.nic_user", str(path), "1.0"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    users = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]  # type: ignore[call-overload]  # a dict of two equal pipes

    started_s = time.monotonic()
    for user in users:
        user.stdin.write("go\n")
        user.stdin.flush()
    moved = [int(user.communicate(timeout=30)[0]) for user in users]
    elapsed_s = time.monotonic() - started_s

    assert sum(moved) <= RATE * (elapsed_s + 0.02) + 2 * 64 * 1024
    assert sum(moved) >= 0.8 * RATE * 1.0
    assert min(moved) > 0
