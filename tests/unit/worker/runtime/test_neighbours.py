"""The network budget as a stage's messages meet it."""

import time
from pathlib import Path

import pytest

from libs.common.errors import NicRateLimiterError
from libs.common.network.nic_rate_limiter import NicRateLimiter
from services.worker.runtime.neighbours import NIC_CREDIT_S, NicSendLimiter
from services.worker.runtime.progress import Progress

RATE = 2_000_000


def test_two_stages_of_a_node_share_its_rate_with_the_fetcher(tmp_path: Path) -> None:
    path = tmp_path / "nic.ledger"
    fetcher = NicRateLimiter.create(path, RATE)
    first, second = NicSendLimiter(path), NicSendLimiter(path)
    started_s = time.monotonic()

    for _ in range(4):
        first(RATE // 20)
        second(RATE // 20)

    # The last one only leaves a debt, and the one before may have been on credit.
    assert time.monotonic() - started_s > 7 / 20 - NIC_CREDIT_S - 0.03
    assert fetcher.take(1) > 0


def test_who_waits_for_the_node_s_rate_is_seen_to_wait(tmp_path: Path) -> None:
    path = tmp_path / "nic.ledger"
    NicRateLimiter.create(path, RATE).take(RATE // 10)
    progress = Progress()

    NicSendLimiter(path, progress.note)(1)

    assert progress.count >= 1


def test_without_a_rate_limiter_nothing_is_sent(tmp_path: Path) -> None:
    with pytest.raises(NicRateLimiterError):
        NicSendLimiter(tmp_path / "nic.ledger")(1)
