"""Counters, gauges and histograms in the Prometheus text format, kept in plain dictionaries."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from services.gateway.store.requests import EndedRow

Labels = tuple[str, ...]  # values, in the order of the metric's label names

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600)


@dataclass
class Counter:
    name: str
    help: str
    label_names: tuple[str, ...]
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        assert len(labels) == len(self.label_names)
        self.values[labels] = self.values.get(labels, 0.0) + amount

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.help, "counter")
        for labels, value in sorted(self.values.items()):
            yield _sample(self.name, self.label_names, labels, value)


@dataclass
class Histogram:
    name: str
    help: str
    label_names: tuple[str, ...]
    buckets: tuple[float, ...] = _LATENCY_BUCKETS_S
    _counts: dict[Labels, list[int]] = field(default_factory=dict)
    _sums: dict[Labels, float] = field(default_factory=dict)

    def observe(self, labels: Labels, value: float) -> None:
        assert len(labels) == len(self.label_names)
        counts = self._counts.setdefault(labels, [0] * (len(self.buckets) + 1))
        counts[bisect_left(self.buckets, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.help, "histogram")
        names = (*self.label_names, "le")
        for labels, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip((*self.buckets, "+Inf"), counts, strict=True):
                total += count
                yield _sample(self.name + "_bucket", names, (*labels, str(bound)), total)
            yield _sample(self.name + "_sum", self.label_names, labels, self._sums[labels])
            yield _sample(self.name + "_count", self.label_names, labels, total)


@dataclass(frozen=True)
class Gauge:
    name: str
    help: str
    label_names: tuple[str, ...]
    read: Callable[[], Mapping[Labels, float]]

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.help, "gauge")
        for labels, value in sorted(self.read().items()):
            yield _sample(self.name, self.label_names, labels, value)


Metric = Counter | Histogram | Gauge


class Metrics:
    """What this gateway counts. Models appear by id: names are their tenants' business."""

    def __init__(self) -> None:
        self.http_requests = Counter(
            "hydra_gateway_http_requests_total",
            "HTTP requests by route and status",
            ("route", "status"),
        )
        self.http_seconds = Histogram(
            "hydra_gateway_http_request_seconds", "HTTP requests, whole", ("route",)
        )
        self.ended = Counter(
            "hydra_gateway_requests_ended_total", "Accepted requests by end", ("model", "outcome")
        )
        self.ttft_seconds = Histogram(
            "hydra_gateway_ttft_seconds", "From arrival to the first token", ("model",)
        )
        self.tpot_seconds = Histogram(
            "hydra_gateway_tpot_seconds", "Per token after the first, averaged", ("model",)
        )
        self.tokens = Counter("hydra_gateway_tokens_total", "Tokens by kind", ("model", "kind"))
        self._gauges: list[Gauge] = []

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        self.watch_each(name, help_text, (), lambda: {(): read()})

    def watch_each(
        self,
        name: str,
        help_text: str,
        label_names: tuple[str, ...],
        read: Callable[[], Mapping[Labels, float]],
    ) -> None:
        """A gauge whose labelled values come and go with what `read` returns."""
        self._gauges.append(Gauge(name, help_text, label_names, read))

    def count_ended(self, row: EndedRow) -> None:
        """Token times are ages at the end of the request, so TTFT is a difference of ages."""
        self.ended.add((row.model_id, row.outcome))
        self.tokens.add((row.model_id, "prompt"), row.num_prompt_tokens)
        self.tokens.add((row.model_id, "generated"), row.num_generated_tokens)
        if row.first_token_age_s is not None:
            ttft_s = row.arrived_age_s - row.first_token_age_s
            self.ttft_seconds.observe((row.model_id,), ttft_s)
            if row.num_generated_tokens > 1:
                tpot_s = row.first_token_age_s / (row.num_generated_tokens - 1)
                self.tpot_seconds.observe((row.model_id,), tpot_s)

    def render(self) -> str:
        metrics: tuple[Metric, ...] = (
            self.http_requests,
            self.http_seconds,
            self.ended,
            self.ttft_seconds,
            self.tpot_seconds,
            self.tokens,
            *self._gauges,
        )
        return "\n".join(line for metric in metrics for line in metric.lines()) + "\n"


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
