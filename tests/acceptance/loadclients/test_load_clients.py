"""Load clients that others wrote run clean, against cold models and warm ones."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.loadclients.running import (
    ANSWER_TOKENS,
    GUIDELLM,
    NUM_REQUESTS,
    VLLM,
    Target,
    run_guidellm,
    run_vllm_bench,
)
from tests.acceptance.observing import live_endpoints, settled
from tests.support.checkpoints import make_tiny_llama
from tests.support.failures import require_same_tokens
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),  # the clients are installed first
    pytest.mark.asyncio(loop_scope="session"),
]


@dataclass(frozen=True)
class Models:
    """The same weights, as a model that is soon idle and one that stays."""

    stack: LocalStack
    client: Client
    folder: Path

    async def target(self, api: str, *, is_cold: bool) -> Target:
        """The client gets to a warm model after the first answer, to a cold one before any."""
        name = "load-cold" if is_cold else "load-warm"
        if is_cold:
            await eventually(lambda: self._is_cold(name), timeout_s=60, what="an idle model")
        else:
            assert (await self.client.stream(name, "hello", max_tokens=2)).is_complete
        return Target(self.stack.gateway_url, self.stack.api_key, name, self.folder, api)

    async def _is_cold(self, name: str) -> bool:
        return await live_endpoints(self.client, name) == []

    async def num_cold_starts(self) -> int:
        return len(await self.client.get("/api/v1/cold-starts?model=load-cold"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def models(stack: LocalStack, client: Client, sources: Path) -> AsyncIterator[Models]:
    folder = make_tiny_llama(sources / "load", seed=31, is_endless=True)
    await client.ready("load-cold", str(folder), keep_alive_s=1)
    await client.ready("load-warm", str(folder), keep_alive_s=600)
    yield Models(stack, client, folder)
    for name in ("load-cold", "load-warm"):
        await client.delete(name)
    await settled(stack, client)


@pytest.mark.parametrize("api", ["chat", "text"])
async def test_vllm_bench_serve_loses_nothing_of_cold_streams_nor_of_warm_ones(
    models: Models, tmp_path: Path, api: str
) -> None:
    await asyncio.to_thread(VLLM.install)
    reports: list[dict[str, Any]] = []
    num_cold_starts = await models.num_cold_starts()

    for is_cold in (False, True):
        folder = tmp_path / str(is_cold)
        folder.mkdir()
        reports.append(await run_vllm_bench(await models.target(api, is_cold=is_cold), folder))

    for report in reports:
        assert (report["completed"], report["failed"]) == (NUM_REQUESTS, 0)
        assert report["errors"] == [""] * NUM_REQUESTS
        assert report["output_lens"] == [ANSWER_TOKENS] * NUM_REQUESTS
        assert all(ttft > 0 for ttft in report["ttfts"])
    warm, cold = (report["generated_texts"] for report in reports)
    require_same_tokens(cold, warm, f"what cold streams of {api} gave")
    assert all(warm)
    assert await models.num_cold_starts() == num_cold_starts + 1


@pytest.mark.parametrize("is_cold", [True, False])
@pytest.mark.parametrize("api", ["chat", "text"])
async def test_guidellm_counts_every_request_and_every_token(
    models: Models, tmp_path: Path, api: str, is_cold: bool
) -> None:
    await asyncio.to_thread(GUIDELLM.install)
    num_cold_starts = await models.num_cold_starts()

    report = await run_guidellm(await models.target(api, is_cold=is_cold), tmp_path)

    (benchmark,) = report["benchmarks"]
    requests = benchmark["requests"]
    assert (requests["errored"], requests["incomplete"]) == ([], [])
    assert len(requests["successful"]) == NUM_REQUESTS
    assert {r["output_metrics"]["text_tokens"] for r in requests["successful"]} == {ANSWER_TOKENS}
    assert await models.num_cold_starts() == num_cold_starts + is_cold
