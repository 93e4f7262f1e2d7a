"""Spans as the services write them: OTLP in JSON lines, one file per process."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SpanRecord:
    service: str  # without the project's name before it: gateway, scheduler, fetcher, worker
    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    attributes: dict[str, str]


def read_spans(folder: Path) -> list[SpanRecord]:
    """What is whole so far; the line that is being written comes with the next call."""
    return [span for path in folder.glob("*.jsonl") for span in _spans_of(path)]


def trace_of(request_id: str, folder: Path) -> list[SpanRecord]:
    """All spans of the traces that name the request."""
    spans = read_spans(folder)
    ids = {s.trace_id for s in spans if s.attributes.get("hydra.request_id") == request_id}
    return [span for span in spans if span.trace_id in ids]


def _spans_of(path: Path) -> Iterator[SpanRecord]:
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            for resource in json.loads(line)["resourceSpans"]:
                yield from _spans_in(resource)


def _spans_in(resource: dict[str, Any]) -> Iterator[SpanRecord]:
    service = _attributes(resource["resource"])["service.name"].removeprefix("hydraserve-")
    for scope in resource["scopeSpans"]:
        for span in scope["spans"]:
            yield SpanRecord(
                service=service,
                name=span["name"],
                trace_id=span["traceId"],
                span_id=span["spanId"],
                parent_id=span.get("parentSpanId") or None,
                start_ns=int(span["startTimeUnixNano"]),
                end_ns=int(span["endTimeUnixNano"]),
                attributes=_attributes(span),
            )


def _attributes(owner: dict[str, Any]) -> dict[str, str]:
    return {
        item["key"]: str(next(iter(item["value"].values()))) for item in owner.get("attributes", ())
    }
