"""What `up` and `demo` read from the gateway."""

from dataclasses import replace

import pytest

from deploy.local.errors import ApiError
from deploy.local.report.api_types import ColdStartInfo, ModelInfo, NodeInfo, StreamEvent
from libs.common.observability.timeline import TimedStep


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", None),  # between events
        ("data: [DONE]", None),
        (': progress {"phase":"waiting"}', StreamEvent(progress="waiting")),
        (
            ': progress {"phase":"queued","queue_position":2}',
            StreamEvent(progress="queued, after 2 others"),
        ),
        (
            ': progress {"phase":"fetching","bytes_done":1500000,"bytes_total":269000000}',
            StreamEvent(progress="fetching, 2 of 269 MB"),
        ),
        (": ping", StreamEvent(progress="ping")),
        ('data: {"choices":[{"delta":{"role":"assistant"}}]}', StreamEvent()),
        ('data: {"choices":[{"delta":{"content":"Par"}}]}', StreamEvent(text="Par")),
        ('data: {"choices":[]}', StreamEvent()),  # usage alone
    ],
)
def test_a_line_of_the_stream_is_progress_text_or_nothing(
    line: str, expected: StreamEvent | None
) -> None:
    assert StreamEvent.parse(line) == expected


def test_an_error_in_the_stream_is_raised_with_its_words() -> None:
    with pytest.raises(ApiError, match="two endpoints died"):
        StreamEvent.parse('data: {"error":{"message":"two endpoints died"}}')


def test_a_cold_starts_steps_count_from_its_beginning() -> None:
    body = {
        "id": "cold-a",
        "started_at": "2026-01-01T00:00:00Z",
        "ready_at": None,
        "weight_bytes": 10,
        "bytes_from_cache": 4,
        "steps": [
            {
                "actor": "fetch/worker-a",
                "node_id": "node-0",
                "stage_index": 0,
                "name": "fetch",
                "started_at": "2026-01-01T00:00:01.5Z",
                "ended_at": "2026-01-01T00:00:02Z",
                "detail": "",
            },
            {
                "actor": "worker-a",
                "node_id": "node-0",
                "stage_index": 0,
                "name": "first_token",
                "started_at": "2026-01-01T00:00:02Z",
                "ended_at": None,
                "detail": "",
            },
        ],
    }

    info = ColdStartInfo.parse(body)

    assert info.steps == (
        TimedStep("fetch/worker-a", "fetch", "node-0", 0, 1.5, 2.0),
        TimedStep("worker-a", "first_token", "node-0", 0, 2.0, None),
    )
    assert info.stage_indexes == (0,)
    assert info.node_ids == {"node-0"}
    assert not info.is_complete


def test_a_start_is_complete_whatever_becomes_of_the_consolidation_after_it() -> None:
    start = (
        TimedStep("worker-a", "ready", "node-0", 0, 0.0, 1.0),
        TimedStep("worker-a", "first_token", "node-0", 0, 1.0, 2.0),
    )
    open_step = TimedStep("fetch/rest", "consolidation.fetch", "node-0", 0, 2.0, None)

    info = ColdStartInfo("start-1", 10, 0, (*start, open_step))

    assert info.is_complete
    assert not replace(info, steps=(*start, replace(open_step, name="fetch"))).is_complete


def test_a_nodes_devices_are_added_up() -> None:
    devices = [{"memory_bytes": 10, "reserved_bytes": 3}, {"memory_bytes": 5, "reserved_bytes": 0}]

    heard = {"agent_heard_at": "2026-01-01T00:00:00Z", "fetcher_heard_at": None}
    node = {"id": "node-0", "devices": devices, "cache_used_bytes": 7}
    body = {**node, "nic_bytes_per_s": 50, "workers": [{}], **heard}

    info = NodeInfo.parse(body)

    held = {"device_bytes": 15, "reserved_bytes": 3, "cached_bytes": 7}
    assert info == NodeInfo("node-0", False, **held, nic_bytes_per_s=50, num_workers=1)


def test_a_models_import_is_read() -> None:
    body = {"name": "m", "state": "FAILED", "cause": "why", "bytes_done": 1, "bytes_total": 2}

    assert ModelInfo.parse(body) == ModelInfo("m", "FAILED", "why", 1, 2)
