"""What a cold request leaves: one trace, from the HTTP call to the work of every process it woke,
and measurements for the next one."""

from pathlib import Path

import pytest
from sqlalchemy import text

from deploy.local.stack import LocalStack
from libs.common.records.database import Database
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


_MEASURED = text(
    'SELECT m.quantity, m."values" FROM measurements AS m'
    " LEFT JOIN models ON models.id = m.model_id WHERE m.node_id <> '' OR models.name = :name"
)


async def test_what_a_start_and_its_answers_took_is_measured(
    client: Client, stack: LocalStack, sources: Path
) -> None:
    weights = make_tiny_llama(sources / "measured", seed=27, is_endless=True)
    await client.ready("measured", str(weights), keep_alive_s=30)
    database = Database.open(stack.servers.database_settings("scheduler"), pool_size=1)

    async def measured() -> dict[str, list[float]] | None:
        async with database.transaction() as session:
            rows = (await session.execute(_MEASURED, {"name": "measured"})).all()
        found = {row.quantity: list(row.values) for row in rows}
        has_launch = found.keys() & {"standby_launch_s", "build_s"}  # with a standby, or without
        return found if has_launch and found.keys() >= {"prefill_s_per_token", "step_1_s"} else None

    try:
        for prompt in ("hello", "hello again"):  # the first may have waited for weights
            answer = await client.stream("measured", prompt, max_tokens=20, temperature=0)
            assert answer.is_complete, answer
        found = await eventually(measured, timeout_s=60, poll_s=0.2, what="rows of all of it")
    finally:
        await database.close()

    assert isinstance(found, dict)
    assert all(value >= 0 for values in found.values() for value in values), found
    times_s = [values for name, values in found.items() if not name.endswith("_bytes_per_s")]
    assert all(value < 10 for values in times_s for value in values), found
    assert min(found["prefill_s_per_token"] + found["step_1_s"]) > 0, found
    await client.delete("measured")
    await settled(stack, client)


def children(trace: list[SpanRecord], parent: SpanRecord) -> list[SpanRecord]:
    return [span for span in trace if span.parent_id == parent.span_id]
