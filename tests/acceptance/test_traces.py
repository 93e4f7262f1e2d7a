"""One cold request is one trace, from the HTTP call to the work of every process it woke."""

from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.observing import settled
from tests.support.checkpoints import make_tiny_llama
from tests.support.spans import SpanRecord, trace_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

_START_SPANS = {
    "scheduler": {"scheduler.queue", "scheduler.plan"},
    "fetcher": {"fetch"},
    "worker": {"worker.spawn", "worker.import", "worker.load", "worker.ready"},
}


async def test_a_cold_requests_trace_has_every_service_under_the_right_parent(
    client: Client, stack: LocalStack, sources: Path
) -> None:
    weights = make_tiny_llama(sources / "traced", seed=33)  # in no host cache yet
    await client.ready("traced", str(weights), keep_alive_s=1)
    answer = await client.stream("traced", "hello", max_tokens=4)
    assert answer.is_complete and answer.request_id is not None
    request_id = answer.request_id

    traces = stack.options.state.traces

    async def is_whole() -> bool:  # processes write theirs once a second
        names = {span.name for span in trace_of(request_id, traces)}
        return set().union(*_START_SPANS.values(), {"cold start", "worker.generate"}) <= names

    await eventually(is_whole, timeout_s=60, poll_s=0.2, what="all spans")
    trace = trace_of(request_id, traces)
    by_id = {span.span_id: span for span in trace}
    assert len(by_id) == len(trace), "a span's id is its own"
    roots = [span for span in trace if span.parent_id not in by_id]
    assert [(root.service, root.parent_id) for root in roots] == [("gateway", None)]

    (start,) = [span for span in trace if span.name == "cold start"]
    assert start.parent_id is not None
    assert (start.service, by_id[start.parent_id].service) == ("scheduler", "gateway")
    for service, names in _START_SPANS.items():
        found = {span.name for span in children(trace, start) if span.service == service}
        assert names <= found, f"{service} is part of the cold start"
    (generate,) = [span for span in trace if span.name == "worker.generate"]
    assert generate.parent_id is not None
    assert by_id[generate.parent_id].service == "gateway", "the request outlives the cold start"

    await client.delete("traced")
    await settled(stack, client)


def children(trace: list[SpanRecord], parent: SpanRecord) -> list[SpanRecord]:
    return [span for span in trace if span.parent_id == parent.span_id]
