"""How far a time is from what its SLO allows."""

import pytest

from services.gateway.store.slo_times import SloTime, slo_time


@pytest.mark.parametrize(
    ("took_ms", "slo_ms", "margin_ms", "ratio", "why"),
    [
        (250.0, 1000, 750.0, 0.25, "three quarters are left"),
        (1500.0, 1000, -500.0, 1.5, "half a second too long"),
        (1000.0, 1000, 0.0, 1.0, "just in time"),
        (None, 1000, None, None, "there was no such time"),
        (250.0, None, None, None, "a row of an earlier version"),
    ],
)
def test_the_margin_is_what_is_left(
    took_ms: float | None,
    slo_ms: int | None,
    margin_ms: float | None,
    ratio: float | None,
    why: str,
) -> None:
    assert slo_time(took_ms, slo_ms) == SloTime(took_ms, slo_ms, margin_ms, ratio), why
