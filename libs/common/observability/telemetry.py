"""Traces: one from the HTTP request through every step on every node; context in NATS headers.

The exporter follows the standard OTEL variables; without them spans go to OTLP/JSON files in
`HYDRA_TRACE_DIR`, and nowhere when that is not set either.
"""

import atexit
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path

from blake3 import blake3
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

logger = logging.getLogger(__name__)
tracer = trace.get_tracer("hydraserve")
_promised_span_id: ContextVar[int | None] = ContextVar("promised_span_id", default=None)


def configure_logging(service: str, level: str = "INFO") -> None:
    """Short lines with time, level and module; ids are fields of the sentence."""
    logging.basicConfig(
        level=level, format=f"%(asctime)s %(levelname)s {service} %(name)s: %(message)s"
    )


def configure_tracing(service: str, instance: str, environ: Mapping[str, str] = os.environ) -> None:
    """Install the process-wide tracer provider; call once, at start."""
    exporter = _exporter(service, instance, environ)
    if exporter is None:
        return
    resource = Resource.create(
        {"service.name": f"hydraserve-{service}", "service.instance.id": instance}
    )
    provider = TracerProvider(resource=resource, id_generator=_SpanIds(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    atexit.register(provider.shutdown)


def _exporter(service: str, instance: str, environ: Mapping[str, str]) -> SpanExporter | None:
    kind = environ.get("OTEL_TRACES_EXPORTER", "")
    has_endpoint = any(
        environ.get(key)
        for key in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    if kind == "otlp" or (not kind and has_endpoint):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    folder = environ.get("HYDRA_TRACE_DIR")
    if kind in ("", "otlp_json_file") and folder:
        from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter

        Path(folder).mkdir(parents=True, exist_ok=True)
        return FileSpanExporter(str(Path(folder) / f"{service}-{instance}.jsonl"))
    if kind not in ("", "none"):
        logger.warning("OTEL_TRACES_EXPORTER=%s is not known here; traces are off", kind)
    return None


def outgoing_headers() -> dict[str, str]:
    """The current trace context as message headers; empty outside a trace."""
    headers: dict[str, str] = {}
    inject(headers)
    return headers


def current_traceparent() -> str | None:
    return outgoing_headers().get("traceparent")


@contextmanager
def remote_context(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Run as part of the trace that the sender's headers name."""
    if not headers:
        yield
        return
    token = otel_context.attach(extract(headers))
    try:
        yield
    finally:
        otel_context.detach(token)


class _SpanIds(RandomIdGenerator):
    """Random, but for a span whose id was given away before it was recorded."""

    def generate_span_id(self) -> int:
        return _promised_span_id.get() or super().generate_span_id()


def promised_traceparent(traceparent: str | None, key: str) -> str | None:
    """The context of a span that `record_span` will write later with the same `key`.

    Work that starts before can be its child, even if another process writes it in the end.
    """
    if traceparent is None:
        return None
    version, trace_id, _, flags = traceparent.split("-")
    return f"{version}-{trace_id}-{_span_id_of(key):016x}-{flags}"


def _span_id_of(key: str) -> int:
    return int.from_bytes(blake3(key.encode()).digest(8)) or 1  # 0 is no id


def continued_context(traceparent: str | None) -> otel_context.Context | None:
    return extract({"traceparent": traceparent}) if traceparent else None


def record_span(
    name: str,
    traceparent: str | None,
    started_at: datetime,
    ended_at: datetime,
    attributes: Mapping[str, AttributeValue],
    error: str | None = None,
    key: str | None = None,
) -> None:
    """A span for work that was timed elsewhere, e.g. in a worker process without telemetry.

    `key` is that of the promise, where children had to know this span before: at most one span of
    a trace may have it.
    """
    token = _promised_span_id.set(None if key is None else _span_id_of(key))
    try:
        span = tracer.start_span(
            name,
            context=continued_context(traceparent),
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            start_time=_nanoseconds(started_at),
        )
    finally:
        _promised_span_id.reset(token)
    fail_span(span, error)
    span.end(end_time=_nanoseconds(ended_at))


def fail_span(span: Span, error: str | None) -> None:
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, error))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
