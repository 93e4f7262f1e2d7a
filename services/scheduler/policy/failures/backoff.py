"""When a model that keeps failing to start may try again. Pure."""

from dataclasses import dataclass

FREE_FAILURES = 2  # the third failed start is the first that costs waiting
FIRST_DELAY_S = 10.0
MAX_DELAY_S = 300.0
WINDOW_S = 300.0  # failures further apart are not a series


@dataclass(frozen=True)
class Backoff:
    num_failed_starts: int
    delay_s: float


def after_failure(num_failed_starts: int, remaining_s: float | None) -> Backoff:
    """The series after one more failed start.

    `remaining_s` is what was left of the last delay: negative when it ended that long ago, None
    when no start of the model ever failed.
    """
    is_series = remaining_s is not None and remaining_s > -WINDOW_S
    failed = num_failed_starts + 1 if is_series else 1
    return Backoff(failed, delay_s(failed))


def delay_s(
    num_failed_starts: int, first_s: float = FIRST_DELAY_S, max_s: float = MAX_DELAY_S
) -> float:
    """0, 0, 10, 20, 40, … 300."""
    doublings = num_failed_starts - FREE_FAILURES - 1
    if doublings < 0:
        return 0.0
    return min(first_s * 2.0 ** min(doublings, 16), max_s)
