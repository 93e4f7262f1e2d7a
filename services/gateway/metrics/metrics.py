"""What this gateway counts, as one document."""

import asyncio
from collections.abc import Callable, Iterator

from libs.common.clock import Clock
from services.gateway.metrics.instruments import Counter, Gauge, Gauges, Histogram
from services.gateway.metrics.recent_models import RecentModels
from services.gateway.store.requests import EndedRow

_RATIO_BUCKETS = (0.25, 0.5, 0.75, 0.9, 1, 1.25, 1.5, 2, 4)
_STEP_LINES = 1_000  # are written before others have a turn: some milliseconds of the loop


class Metrics:
    """Models appear by id: names are their tenants' business. The series of a model go when nobody
    has asked for it for an hour, and when a thousand others were asked for since."""

    def __init__(self, clock: Clock) -> None:
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
        self.ttft_slo_ratio = Histogram(
            "hydra_gateway_ttft_slo_ratio",
            "From arrival to the first token, of what the SLO allows",
            ("model",),
            _RATIO_BUCKETS,
        )
        self.tpot_slo_ratio = Histogram(
            "hydra_gateway_tpot_slo_ratio",
            "Per token after the first, averaged, of what the SLO allows",
            ("model",),
            _RATIO_BUCKETS,
        )
        self.slo_met = Counter(
            "hydra_gateway_slo_met_total", "Requests that met their SLO", ("model",)
        )
        self.slo_missed = Counter(
            "hydra_gateway_slo_missed_total",
            "Requests that did not, by what most of their time went to",
            ("model", "reason"),
        )
        self.tokens = Counter("hydra_gateway_tokens_total", "Tokens by kind", ("model", "kind"))
        self._recent_models = RecentModels(clock, self._forget_model)
        self._gauges: list[Callable[[], Iterator[str]]] = []

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        gauge: Gauge[float] = Gauge(name, help_text, lambda value: value)
        self._gauges.append(Gauges((), lambda: {(): read()}, (gauge,)).lines)

    def watch_all(self, lines: Callable[[], Iterator[str]]) -> None:
        """Of gauges that have labels."""
        self._gauges.append(lines)

    def count_ended(self, row: EndedRow) -> None:
        """Token times are ages at the end of the request, so TTFT is a difference of ages."""
        self._recent_models.use(row.model_id)
        self.ended.add((row.model_id, row.outcome))
        self.tokens.add((row.model_id, "prompt"), row.num_prompt_tokens)
        self.tokens.add((row.model_id, "generated"), row.num_generated_tokens)
        if row.first_token_age_s is not None:
            ttft_s = row.arrived_age_s - row.first_token_age_s
            self.ttft_seconds.observe((row.model_id,), ttft_s)
            if row.num_generated_tokens > 1:
                tpot_s = row.first_token_age_s / (row.num_generated_tokens - 1)
                self.tpot_seconds.observe((row.model_id,), tpot_s)
        self._count_slo(row)

    def _count_slo(self, row: EndedRow) -> None:
        if row.is_slo_met:
            self.slo_met.add((row.model_id,))
        elif row.slo_miss is not None:
            self.slo_missed.add((row.model_id, row.slo_miss))
        for histogram, took_ms, target_ms in (
            (self.ttft_slo_ratio, row.ttft_ms, row.slo_ttft_ms),
            (self.tpot_slo_ratio, row.tpot_ms, row.slo_tpot_ms),
        ):
            if took_ms is not None and target_ms is not None:
                histogram.observe((row.model_id,), took_ms / target_ms)

    async def render(self) -> str:
        self._recent_models.forget_idle()
        lines: list[str] = []
        for line in self._lines():
            lines.append(line)
            if len(lines) % _STEP_LINES == 0:
                await asyncio.sleep(0)
        return "\n".join(lines) + "\n"

    def _lines(self) -> Iterator[str]:
        """Each metric is written as it was when its first line was."""
        for metric in (
            self.http_requests,
            self.http_seconds,
            self.ended,
            self.ttft_seconds,
            self.tpot_seconds,
            self.ttft_slo_ratio,
            self.tpot_slo_ratio,
            self.slo_met,
            self.slo_missed,
            self.tokens,
        ):
            yield from metric.lines()
        for gauge_lines in self._gauges:
            yield from gauge_lines()

    def _forget_model(self, model_id: str) -> None:
        for counter in (self.ended, self.tokens, self.slo_met, self.slo_missed):
            counter.forget(model_id)
        times = (self.ttft_seconds, self.tpot_seconds)
        for histogram in (*times, self.ttft_slo_ratio, self.tpot_slo_ratio):
            histogram.forget((model_id,))
