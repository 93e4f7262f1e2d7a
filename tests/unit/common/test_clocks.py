"""What every clock does: the system's, and the double that stands still until told."""

import time
from collections.abc import Callable
from datetime import UTC, timedelta

import pytest

from libs.common.clock import Clock, SystemClock
from libs.common.testing.bus import FakeClock

Advance = Callable[[float], None]


@pytest.fixture(params=["system", "double"])
def clock_and_advance(request: pytest.FixtureRequest) -> tuple[Clock, Advance]:
    if request.param == "system":
        return SystemClock(), time.sleep
    double = FakeClock()
    return double, double.advance


def test_both_its_times_go_on_together(clock_and_advance: tuple[Clock, Advance]) -> None:
    clock, advance = clock_and_advance
    monotonic_s, now = clock.monotonic_s(), clock.now()

    advance(0.02)

    assert clock.monotonic_s() - monotonic_s >= 0.0199
    assert clock.now() - now >= timedelta(seconds=0.0199)


def test_its_wall_time_has_a_zone_and_its_durations_none_of_it(
    clock_and_advance: tuple[Clock, Advance],
) -> None:
    clock, _ = clock_and_advance
    assert clock.now().tzinfo is UTC
    assert 0 <= clock.monotonic_s() < clock.now().timestamp()
