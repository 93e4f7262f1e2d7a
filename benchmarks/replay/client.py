"""Sends the requests of a trace when they are due, whatever became of those before."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.replay.trace import TraceRequest
from deploy.local.errors import ApiError
from deploy.local.report.api import ApiClient

ANSWER_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class ClientAnswer:
    index: int
    request_id: str
    ttft_s: float | None  # until the first text; None: there was none
    error: str | None = None


async def replay(api: ApiClient, trace: Sequence[TraceRequest]) -> list[ClientAnswer]:
    """In the order of the trace, once all have ended."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_send(api, request, began_s)) for request in trace]
    return [task.result() for task in tasks]


async def _send(api: ApiClient, request: TraceRequest, began_s: float) -> ClientAnswer:
    await asyncio.sleep(max(0.0, began_s + request.at_s - time.monotonic()))
    sent_s = time.monotonic()
    request_id, ttft_s = "", None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            async for event in api.chat(request.model, request.question, request.max_tokens):
                request_id = request_id or event.request_id
                if event.text and ttft_s is None:
                    ttft_s = time.monotonic() - sent_s
    except (ApiError, TimeoutError) as exc:
        return ClientAnswer(request.index, request_id, ttft_s, str(exc) or "no answer in time")
    return ClientAnswer(request.index, request_id, ttft_s)
