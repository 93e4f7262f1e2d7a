"""How the figures of `make bench-neighbour` come from its samples."""

import pytest

from benchmarks.neighbour.figures import GAP_P99, TTFT_P95, failures, level, percentile, ratio
from benchmarks.neighbour.windows import Kind, Measured, Window


def measured() -> Measured:
    """A second of each kind; disturbed gaps are three times as long."""
    found = Measured()
    found.windows = [
        Window(Kind.UNDISTURBED, 0, 10.0, 12.0),
        Window(Kind.DISTURBED, 0, 20.0, 22.0),
    ]
    for began_s, gap_s in ((10.0, 0.1), (20.0, 0.3)):
        for number in range(20):
            at_s = began_s + number / 10
            found.samples.append({"at_s": at_s, "kind": "stream_gap", "value": gap_s})
            found.samples.append({"at_s": at_s, "kind": "probe_first", "value": 0.5})
    found.samples.append({"at_s": 15.0, "kind": "stream_gap", "value": 99.0})
    found.samples.append({"at_s": 21.0, "kind": "probe_failed", "value": "503"})
    return found


def test_ratios_compare_windows_and_leave_out_what_lies_between() -> None:
    gap, first = (ratio(measured(), Kind.DISTURBED, metric) for metric in (GAP_P99, TTFT_P95))

    assert (gap.low, gap.value, gap.high) == pytest.approx((3.0, 3.0, 3.0))
    assert first.value == pytest.approx(1.0)
    assert level(measured(), Kind.UNDISTURBED, GAP_P99).value == pytest.approx(0.1)


def test_what_was_refused_is_counted_wherever_it_was() -> None:
    assert failures(measured()) == ["503"]


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0
