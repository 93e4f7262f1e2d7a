"""Counters, gauges and histograms in the Prometheus text format, kept in plain dictionaries."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Labels = tuple[str, ...]  # values, in the order of the metric's label names

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600)
_Source = TypeVar("_Source")


@dataclass
class Counter:
    name: str
    help: str
    label_names: tuple[str, ...]
    _values: dict[str, dict[Labels, float]] = field(default_factory=dict)  # by the first label

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        assert len(labels) == len(self.label_names)
        values = self._values.setdefault(labels[0], {})
        values[labels] = values.get(labels, 0.0) + amount

    def forget(self, first_label: str) -> None:
        """The series that begin with it; counted again they begin at zero, as after a start."""
        self._values.pop(first_label, None)

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.help, "counter")
        values = (pair for values in self._values.values() for pair in values.items())
        for labels, value in sorted(values):
            yield _sample(self.name, self.label_names, labels, value)


@dataclass
class _Observed:
    """The values of one series."""

    counts: list[int]  # by bucket, the last one without a bound
    sum: float = 0.0


@dataclass
class Histogram:
    name: str
    help: str
    label_names: tuple[str, ...]
    buckets: tuple[float, ...] = _LATENCY_BUCKETS_S
    _observed: dict[Labels, _Observed] = field(default_factory=dict)

    def observe(self, labels: Labels, value: float) -> None:
        assert len(labels) == len(self.label_names)
        observed = self._observed.get(labels)
        if observed is None:
            observed = self._observed[labels] = _Observed([0] * (len(self.buckets) + 1))
        observed.counts[bisect_left(self.buckets, value)] += 1
        observed.sum += value

    def forget(self, labels: Labels) -> None:
        self._observed.pop(labels, None)

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.help, "histogram")
        names = (*self.label_names, "le")
        for labels, observed in sorted(self._observed.items(), key=lambda item: item[0]):
            total = 0
            for bound, count in zip((*self.buckets, "+Inf"), observed.counts, strict=True):
                total += count
                yield _sample(self.name + "_bucket", names, (*labels, str(bound)), total)
            yield _sample(self.name + "_sum", self.label_names, labels, observed.sum)
            yield _sample(self.name + "_count", self.label_names, labels, total)


@dataclass(frozen=True)
class Gauge(Generic[_Source]):
    """One of some that are read from the same source."""

    name: str
    help: str
    value: Callable[[_Source], float]


@dataclass(frozen=True)
class Gauges(Generic[_Source]):
    """Their labelled values come and go with what `read` returns."""

    label_names: tuple[str, ...]
    read: Callable[[], Mapping[Labels, _Source]]
    gauges: tuple[Gauge[_Source], ...]

    def lines(self) -> Iterator[str]:
        sources = sorted(self.read().items(), key=lambda item: item[0])
        for gauge in self.gauges:
            yield from _head(gauge.name, gauge.help, "gauge")
            for labels, source in sources:
                yield _sample(gauge.name, self.label_names, labels, gauge.value(source))


def _head(name: str, help_text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, label_names: tuple[str, ...], labels: Labels, value: float) -> str:
    pairs = zip(label_names, labels, strict=True)
    inner = ",".join(f'{key}="{_escape(text)}"' for key, text in pairs)
    number = f"{value:.15g}"  # all digits of a count: what is cut off would seem to stand still
    return f"{name}{{{inner}}} {number}" if inner else f"{name} {number}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
