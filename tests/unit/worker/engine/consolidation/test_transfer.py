"""Move or compute again: worked numbers."""

from math import inf

import pytest

from services.worker.engine.consolidation.transfer import plan_transfer
from services.worker.engine_port import KvTransfer
from tests.unit.worker.engine.consolidation.test_kv_copy import running

DEMO_BYTES = 17_280  # of a token in three quarters of the demo model's layers


def test_eight_long_sequences_are_moved() -> None:
    sequences = [running(512, arrival=n) for n in range(8)]

    plan = plan_transfer(
        sequences,
        bytes_per_token=DEMO_BYTES,
        link_bytes_per_s=50_000_000,
        prefill_s_per_token=0.001,
    )

    assert (plan.num_sequences, plan.num_tokens) == (8, 4096)
    assert plan.num_bytes == 70_778_880
    assert plan.move_s == pytest.approx(0.1 + 70_778_880 / 50e6)  # 1.52 s
    assert plan.recompute_s == pytest.approx(4.096)
    assert plan.transfer is KvTransfer.MOVE


def test_a_short_sequence_is_computed_again() -> None:
    plan = plan_transfer(
        [running(20)],
        bytes_per_token=DEMO_BYTES,
        link_bytes_per_s=50_000_000,
        prefill_s_per_token=0.001,
    )

    assert plan.recompute_s == pytest.approx(0.02)
    assert plan.transfer is KvTransfer.RECOMPUTE


def test_over_a_slow_link_long_sequences_are_computed_again() -> None:
    plan = plan_transfer(
        [running(2000)],
        bytes_per_token=DEMO_BYTES,
        link_bytes_per_s=1_000_000,
        prefill_s_per_token=0.001,
    )

    assert plan.move_s > 30 and plan.recompute_s == pytest.approx(2.0)
    assert plan.transfer is KvTransfer.RECOMPUTE


def test_what_would_make_requests_wait_longer_is_moved_though_it_takes_longer() -> None:
    """The pipeline goes on for 1.42 of the 1.52 s of the move, but not while it computes again."""
    plan = plan_transfer(
        [running(512, arrival=n) for n in range(8)],
        bytes_per_token=DEMO_BYTES,
        link_bytes_per_s=50_000_000,
        prefill_s_per_token=0.0002,
    )

    assert plan.recompute_s == pytest.approx(0.8192) and plan.move_s > plan.recompute_s
    assert plan.transfer is KvTransfer.MOVE


def test_without_a_measured_prefill_they_are_moved() -> None:
    plan = plan_transfer(
        [running(2000)], bytes_per_token=1, link_bytes_per_s=1, prefill_s_per_token=None
    )

    assert plan.recompute_s == inf and plan.transfer is KvTransfer.MOVE


def test_whoever_says_which_gets_it() -> None:
    plan = plan_transfer(
        [running(20)],
        bytes_per_token=1,
        link_bytes_per_s=0,
        prefill_s_per_token=0.0,
        transfer=KvTransfer.MOVE,
    )

    assert plan.transfer is KvTransfer.MOVE
