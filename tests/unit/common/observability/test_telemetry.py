"""Spans whose children exist before they do."""

import subprocess
import sys
from pathlib import Path

from libs.common.observability.telemetry import promised_traceparent
from tests.support.spans import read_spans

REQUEST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

# In a process of its own: a tracer provider is installed once and for all.
_WRITE_PARENT_LAST = f"""
import os
from datetime import UTC, datetime
from libs.common.observability.telemetry import configure_tracing, promised_traceparent, record_span

configure_tracing("scheduler", "one", os.environ)
now = datetime.now(UTC)
promise = promised_traceparent({REQUEST!r}, "start-1")
record_span("child", promise, now, now, {{}})
record_span("parent", {REQUEST!r}, now, now, {{}}, key="start-1")
record_span("stranger", {REQUEST!r}, now, now, {{}})
"""


def test_a_promise_stays_in_the_trace_and_is_the_same_for_everybody() -> None:
    promise = promised_traceparent(REQUEST, "start-1")

    assert promise is not None
    version, trace_id, span_id, flags = promise.split("-")
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert promise == promised_traceparent(REQUEST, "start-1")
    assert span_id not in (REQUEST.split("-")[2], promised_traceparent(REQUEST, "start-2"))


def test_without_a_trace_nothing_is_promised() -> None:
    assert promised_traceparent(None, "start-1") is None


def test_a_span_written_last_is_the_parent_of_what_was_done_in_its_name(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", _WRITE_PARENT_LAST],
        env={"HYDRA_TRACE_DIR": str(tmp_path)},
        check=True,
        timeout=60,
    )

    spans = {span.name: span for span in read_spans(tmp_path)}
    request_span_id = REQUEST.split("-")[2]
    assert spans["child"].parent_id == spans["parent"].span_id
    assert spans["parent"].parent_id == spans["stranger"].parent_id == request_span_id
    assert len({span.span_id for span in spans.values()}) == 3
    assert {span.service for span in spans.values()} == {"scheduler"}
