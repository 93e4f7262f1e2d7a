"""One cold start of a pipeline of given shape, on a fresh stack whose host caches are empty."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.coldpath.readiness import TIMEOUT_S, until_at_rest, until_standbys
from benchmarks.coldpath.starts import MAX_CONTEXT_TOKENS, REST_S, WARM_UP
from benchmarks.coldpath.variants import DEMO_MODEL
from benchmarks.tradeoff.cells import NUM_NODES, Cell
from benchmarks.tradeoff.samples import Figures, Sample
from deploy.local.nodes import equal_nodes
from deploy.local.options import StackOptions
from deploy.local.report.api import ApiClient
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from services.scheduler.policy.snapshot import USUAL_ANSWER_TOKENS
from tests.support.waiting import eventually

QUESTION = "Tell me a long story about a lighthouse keeper and the sea."
MAX_TOKENS = USUAL_ANSWER_TOKENS  # as many as predictions of cost reckon with
KEEP_ALIVE_S = 10.0
STANDBYS = 1  # of each node, as by default

Json = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Where the stacks keep what was imported and measured, and the models by name."""

    state: StateFolder
    sources: Mapping[str, Path]

    async def measure(self, cell: Cell) -> Sample:
        async with (
            LocalStack(self._options(cell)) as stack,
            ApiClient(stack.gateway_url, stack.api_key) as api,
            _reader(stack) as reader,
        ):
            await api.wait_nodes(NUM_NODES, TIMEOUT_S)
            await self._register(api, WARM_UP, {"keep_alive_s": 0.0})
            await _ask(api, WARM_UP)
            await self._register(api, DEMO_MODEL, {"keep_alive_s": KEEP_ALIVE_S, **cell.settings})
            await until_at_rest(api)
            await until_standbys(stack, NUM_NODES * STANDBYS)
            await asyncio.sleep(REST_S)
            answer = await _ask(api, DEMO_MODEL)
            await until_at_rest(api)  # so that all that it costs has been counted
            return await _sample(reader, cell, answer)

    def _options(self, cell: Cell) -> StackOptions:
        return StackOptions(
            state=self.state,
            nodes=equal_nodes(NUM_NODES, cell.node),
            standby_runtimes=STANDBYS,
            # Nodes are not avoided for what became of workers when an earlier call was broken off.
            service_env={"HYDRA_SUSPECT_S": "0.1"},
            import_roots=tuple({path.parent for path in self.sources.values()}),
        )

    async def _register(self, api: ApiClient, name: str, settings: Mapping[str, object]) -> None:
        all_settings = {"max_context_tokens": MAX_CONTEXT_TOKENS, **settings}
        await api.ensure_model(name, self.sources[name], all_settings)
        async for _ in api.wait_imported(name, 10 * TIMEOUT_S):
            pass


@dataclass(frozen=True)
class _Answer:
    request_id: str
    first_text_s: float  # since it was asked for
    last_text_s: float


async def _ask(api: ApiClient, model: str) -> _Answer:
    """Reads the whole answer. A tiny model's may have no text: then its end counts."""
    request_id, texts_s, sent_s = "", [], time.monotonic()
    async for event in api.chat(model, QUESTION, MAX_TOKENS):
        request_id = request_id or event.request_id
        if event.text:
            texts_s.append(time.monotonic() - sent_s)
    ended_s = time.monotonic() - sent_s
    return _Answer(request_id, *((texts_s[0], texts_s[-1]) if texts_s else (ended_s, ended_s)))


def _reader(stack: LocalStack) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    return httpx.AsyncClient(base_url=stack.gateway_url, headers=headers, timeout=15.0)


async def _sample(reader: httpx.AsyncClient, cell: Cell, answer: _Answer) -> Sample:
    request = await _get(reader, f"requests/{answer.request_id}")
    start = await _measured_start(reader, request["cold_start_id"])
    taken = start["plans"][0]
    found = Cell(taken["num_stages"], taken["num_full"])
    assert found == cell, f"{found.name} was planned, not {cell.name}"
    endpoints = await _get(reader, "endpoints?ended=true")
    memory = next(e["memory"] for e in endpoints if e["id"] == start["endpoint_id"])
    num_tokens = request["num_generated_tokens"]
    assert num_tokens > 1, "an answer of one token has no time per token after it"
    tpot_s = (answer.last_text_s - answer.first_text_s) / (num_tokens - 1)
    took_ms = request["tpot"]["took_ms"]
    return Sample(
        cell.num_stages,
        cell.num_full,
        predicted=Figures(
            start["predicted_ttft_ms"] / 1000,
            start["predicted_tpot_ms"] / 1000,
            start["predicted_cost_byte_s"],
        ),
        measured=Figures(answer.first_text_s, tpot_s, memory["total_byte_s"]),
        weight_bytes=start["weight_bytes"],
        fetched_bytes=start["weight_bytes"] - start["bytes_from_cache"],
        num_tokens=num_tokens,
        recorded_ttft_s=start["measured_ttft_ms"] / 1000,
        recorded_tpot_s=None if took_ms is None else took_ms / 1000,
        correction=taken["correction"],
        byte_s={part: memory[f"{part}_byte_s"] for part in ("starting", "busy", "idle")},
    )


async def _measured_start(reader: httpx.AsyncClient, cold_start_id: str | None) -> Json:
    assert cold_start_id is not None, "an endpoint was there already"

    async def measured() -> Json | None:
        start = await _get(reader, f"cold-starts/{cold_start_id}")
        return None if start["measured_ttft_ms"] is None else start

    found: Any = await eventually(measured, timeout_s=TIMEOUT_S, poll_s=0.1, what="its first token")
    return found


async def _get(reader: httpx.AsyncClient, path: str) -> Any:
    return (await reader.get(f"/api/v1/{path}")).raise_for_status().json()
