"""The arithmetic of the token bucket."""

import pytest

from libs.common.network.token_bucket import BURST_S, TokenBucket

RATE = 1_000_000


def bucket(level_bytes: float, rate: int = RATE) -> TokenBucket:
    return TokenBucket(rate, level_bytes, filled_at_s=100.0)


@pytest.mark.parametrize(
    ("level_bytes", "later_s", "expected", "why"),
    [
        (0, 0.01, 10_000, "a rate earns"),
        (-50_000, 0.01, -40_000, "debts are paid first"),
        (0, 60.0, BURST_S * RATE, "what is not used is soon lost"),
        (7.0, -5.0, 7.0, "a clock that goes back earns nothing"),
    ],
)
def test_the_level_follows_the_time(
    level_bytes: float, later_s: float, expected: float, why: str
) -> None:
    assert bucket(level_bytes).at(100.0 + later_s).level_bytes == pytest.approx(expected)


@pytest.mark.parametrize(
    ("level_bytes", "credit_s", "expected_s", "why"),
    [
        (1, 0.0, 0.0, "above zero anything may move"),
        (-100_000, 0.0, 0.1, "a debt is waited for"),
        (0, 0.0, 0.0005, "never a wait of nothing, which would spin"),
        (-100_000, 0.04, 0.06, "credit shortens the wait"),
        (-100_000, 0.2, 0.0, "enough credit ends it"),
    ],
)
def test_how_long_to_wait(level_bytes: float, credit_s: float, expected_s: float, why: str) -> None:
    assert bucket(level_bytes).wait_s(credit_s) == pytest.approx(expected_s)


def test_a_grant_of_any_size_is_a_debt_for_the_next() -> None:
    after = bucket(1.0).take(500_001)

    assert after.wait_s() == pytest.approx(0.5)
    assert after.take(-500_001) == bucket(1.0)


def test_without_a_limit_nothing_waits_and_nothing_is_owed() -> None:
    free = bucket(0.0, rate=0).take(10**12).at(101.0)

    assert free.wait_s() == 0.0
