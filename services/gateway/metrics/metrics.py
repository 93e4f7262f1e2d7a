"""What this gateway counts, as one document."""

import asyncio
from collections.abc import Callable, Iterator

from libs.common.clock import Clock
from services.gateway.metrics.instruments import Counter, Gauge, Gauges, Histogram
from services.gateway.metrics.recent_models import RecentModels
from services.gateway.store.requests import EndedRow

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
            self.tokens,
        ):
            yield from metric.lines()
        for gauge_lines in self._gauges:
            yield from gauge_lines()

    def _forget_model(self, model_id: str) -> None:
        for counter in (self.ended, self.tokens):
            counter.forget(model_id)
        for histogram in (self.ttft_seconds, self.tpot_seconds):
            histogram.forget((model_id,))
