"""Metrics in the Prometheus text format."""

from services.gateway.metrics.instruments import Counter, Histogram


def test_metrics_are_written_as_prometheus_reads_them() -> None:
    counter = Counter("c_total", "Counts", ("name",))
    counter.add(('a"b\n',), 2)
    counter.add(("long",), 12_345_678)
    histogram = Histogram("h_seconds", "Takes", (), buckets=(1, 2))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe((), value)

    assert list(counter.lines()) == [
        "# HELP c_total Counts",
        "# TYPE c_total counter",
        'c_total{name="a\\"b\\n"} 2',
        'c_total{name="long"} 12345678',
    ]
    assert list(histogram.lines())[2:] == [
        'h_seconds_bucket{le="1"} 2',
        'h_seconds_bucket{le="2"} 3',
        'h_seconds_bucket{le="+Inf"} 4',
        "h_seconds_sum 12",
        "h_seconds_count 4",
    ]


def test_series_that_were_forgotten_begin_again() -> None:
    counter, histogram = Counter("c", "C", ("name", "kind")), Histogram("h", "H", ("name",), (1,))
    for name in ("a", "b"):
        counter.add((name, "x"), 2)
        counter.add((name, "y"), 2)
        histogram.observe((name,), 1)

    counter.forget("a")
    histogram.forget(("a",))
    counter.add(("a", "x"))

    assert list(counter.lines())[2:] == [
        'c{name="a",kind="x"} 1', 'c{name="b",kind="x"} 2', 'c{name="b",kind="y"} 2',
    ]  # fmt: skip
    assert not any('"a"' in line for line in histogram.lines())
