"""How wrong predictions were, as Prometheus reads it, and over HTTP."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.common.startmode import StartMode
from libs.common.states import PrefetchState
from services.scheduler.metrics.metrics import SchedulerMetrics
from services.scheduler.metrics.server import MAX_REQUEST_BYTES, open_server

NAME = "hydra_scheduler_ttft_error_ratio"


def counts(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)


def test_errors_are_counted_by_start_mode_whether_too_long_or_too_short() -> None:
    metrics = SchedulerMetrics()
    metrics.count_ttft(StartMode.HYDRA, predicted_s=2.0, measured_s=2.2)  # 0.1
    metrics.count_ttft(StartMode.HYDRA, predicted_s=2.0, measured_s=1.2)  # 0.4
    metrics.count_ttft(StartMode.SEQUENTIAL, predicted_s=1.0, measured_s=4.0)  # 3

    found = counts(metrics.render())

    assert found[f'{NAME}_bucket{{mode="hydra",le="0.1"}}'] == "0"  # 0.1000...09
    assert found[f'{NAME}_bucket{{mode="hydra",le="0.15"}}'] == "1"
    assert found[f'{NAME}_bucket{{mode="hydra",le="0.5"}}'] == "2"
    assert found[f'{NAME}_sum{{mode="hydra"}}'] == "0.5"
    assert found[f'{NAME}_bucket{{mode="sequential",le="2"}}'] == "0"
    assert found[f'{NAME}_count{{mode="sequential"}}'] == "1"


def test_prefetches_are_counted_by_how_they_ended() -> None:
    metrics = SchedulerMetrics()
    for state in (PrefetchState.USED, PrefetchState.UNUSED, PrefetchState.USED):
        metrics.count_prefetch(state)

    found = counts(metrics.render())

    assert found['hydra_scheduler_prefetches_total{outcome="used"}'] == "2"
    assert found['hydra_scheduler_prefetches_total{outcome="unused"}'] == "1"


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    metrics = SchedulerMetrics()
    metrics.count_ttft(StartMode.HYDRA, 1.0, 1.0)
    server = await open_server("127.0.0.1", 0, metrics.render)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def asked(port: int, request: bytes) -> bytes:
    """All of the answer, until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_document_is_read_over_http(port: int) -> None:
    answer = await asked(port, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert f"# TYPE {NAME} histogram" in body.decode()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics?x=1 HTTP/1.1", b"200"),
        (b"HEAD /metrics HTTP/1.1", b"200"),
        (b"GET / HTTP/1.1", b"404"),
        (b"POST /metrics HTTP/1.1", b"405"),
        (b"nonsense", b"405"),
    ],
)
async def test_nothing_else_is_there(port: int, request_line: bytes, status: bytes) -> None:
    answer = await asked(port, request_line + b"\r\n\r\n")

    assert answer.split()[1] == status
    assert (b"histogram" in answer) == (status == b"200" and not request_line.startswith(b"HEAD"))


async def test_who_sends_no_request_is_left_alone_and_costs_nobody_an_answer(port: int) -> None:
    assert await asked(port, b"x" * (2 * MAX_REQUEST_BYTES)) == b""
    _, silent = await asyncio.open_connection("127.0.0.1", port)

    answer = await asked(port, b"GET /metrics HTTP/1.1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200")
    silent.close()


async def test_a_port_that_is_taken_is_an_error(port: int) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await open_server("127.0.0.1", port, lambda: "")
