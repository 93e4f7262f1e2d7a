import pytest

from services.scheduler.policy.failures.backoff import Backoff, after_failure, delay_s


def test_two_failures_are_free_and_the_delay_doubles_from_ten_seconds_to_five_minutes() -> None:
    assert [delay_s(n) for n in range(1, 11)] == [0, 0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert delay_s(10_000) == 300


@pytest.mark.parametrize(
    ("num_failed", "remaining_s", "expected", "reason"),
    [
        (0, None, Backoff(1, 0.0), "the first failure ever"),
        (2, -1.0, Backoff(3, 10.0), "the third in a row"),
        (2, -299.0, Backoff(3, 10.0), "still within five minutes"),
        (2, -301.0, Backoff(1, 0.0), "long ago: a new series"),
        (8, -200.0, Backoff(9, 300.0), "the window counts from the end of the delay"),
        (3, 5.0, Backoff(4, 20.0), "two endpoints failed at about the same time"),
    ],
)
def test_failures_form_a_series_when_they_are_close(
    num_failed: int, remaining_s: float | None, expected: Backoff, reason: str
) -> None:
    assert after_failure(num_failed, remaining_s) == expected, reason
