"""A fresh stack, warmed up with a model that does not count, then the starts that do."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.coldpath.bound import model_bytes
from benchmarks.coldpath.readiness import TIMEOUT_S, until_at_rest, until_standbys
from benchmarks.coldpath.samples import PathPart, Sample
from benchmarks.coldpath.stopwatch import Stopwatch
from benchmarks.coldpath.variants import Variant
from deploy.local.nodes import equal_nodes
from deploy.local.options import StackOptions
from deploy.local.report.api import ApiClient
from deploy.local.report.api_types import ColdStartInfo
from deploy.local.report.fetch_bounds import fetch_took_s
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from libs.common.observability.criticalpath import critical_path
from libs.common.observability.timeshares import share_of
from tests.support.waiting import eventually

QUESTION = "What is the capital of France?"
MAX_TOKENS = 12
MAX_CONTEXT_TOKENS = 2048
WARM_UP = "warm-up"  # a tiny model: what it starts is not what is measured
KEEP_ALIVE_S = 1.0
REST_S = 2.0  # before each start: nothing else goes on, and what nodes keep ready is refilled


def small_node(variant: Variant) -> Mapping[str, object]:
    """A node's table for the demo's model, or random weights in stages of like size.

    An eighth of its cache is memory made beforehand: enough for the demo's model in one stage.
    """
    return {"nic": variant.nic_bytes_per_s, "memory": "4Gi", "host_cache": "2Gi", "cores": 1}


@dataclass(frozen=True)
class Bench:
    """Where the stacks keep what they have imported, the models by name, what a node has."""

    state: StateFolder
    sources: Mapping[str, Path]
    node: Callable[[Variant], Mapping[str, object]] = small_node
    s3_processes: int = 1
    max_slots: int = 16  # requests at once that an endpoint has memory for; one is sent
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    async def measure(self, *variants: Variant) -> list[Sample]:
        """Of each one the cold start and, where it asks for it, the one after it.

        All on one stack, so they are such as `by_stack` puts together.
        """
        self.stopwatch.begin()
        found = []
        async with (
            LocalStack(self._options(variants[0])) as stack,
            ApiClient(stack.gateway_url, stack.api_key) as api,
        ):
            await api.wait_nodes(variants[0].num_nodes, TIMEOUT_S)
            self.stopwatch.lap("starting stacks")
            await self._register(api, WARM_UP, variants[0])
            await _ask(api, WARM_UP)
            self.stopwatch.lap("warming up")
            for variant in variants:
                found += await self._starts(stack, api, variant)
        self.stopwatch.lap("ending stacks")
        return found

    async def _starts(self, stack: LocalStack, api: ApiClient, variant: Variant) -> list[Sample]:
        await self._register(api, variant.model, variant)
        weights = await model_bytes(stack, variant.model)
        self.stopwatch.lap("importing")
        largest_bytes = weights.largest_stage_bytes(variant.num_stages)
        prepared = _Prepared(stack, api, variant, largest_bytes, self.stopwatch)
        found = [await prepared.start(name) for name in variant.sample_names]
        await until_at_rest(api)
        self.stopwatch.lap("waiting for rest")
        return found

    def _options(self, variant: Variant) -> StackOptions:
        return StackOptions(
            state=self.state,
            nodes=equal_nodes(variant.num_nodes, self.node(variant)),
            standby_runtimes=variant.standby_runtimes,
            # Nodes are not avoided for what became of workers when an earlier call was broken off.
            service_env={"HYDRA_SUSPECT_S": "0.1"},
            start_mode=variant.mode,
            s3_processes=self.s3_processes,
            import_roots=tuple({path.parent for path in self.sources.values()}),
        )

    async def _register(self, api: ApiClient, name: str, variant: Variant) -> None:
        settings = {
            "keep_alive_s": KEEP_ALIVE_S,
            "min_pipeline_size": variant.num_stages,
            "max_pipeline_size": variant.num_stages,
            "max_context_tokens": MAX_CONTEXT_TOKENS,
            "max_slots": self.max_slots,
        }
        await api.ensure_model(name, self.sources[name], settings)
        async for _ in api.wait_imported(name, 10 * TIMEOUT_S):
            pass


@dataclass(frozen=True)
class _Answer:
    request_id: str
    ttft_s: float


@dataclass(frozen=True)
class _Prepared:
    """A stack with the models registered, and nothing of this one started yet."""

    stack: LocalStack
    api: ApiClient
    variant: Variant
    largest_stage_bytes: int
    stopwatch: Stopwatch

    async def start(self, name: str) -> Sample:
        """One start of the variant's model, under that name."""
        await until_at_rest(self.api)
        await until_standbys(self.stack, self.variant.num_nodes * self.variant.standby_runtimes)
        await asyncio.sleep(REST_S)
        self.stopwatch.lap("waiting for rest")
        first = await _ask(self.api, self.variant.model)
        again = await _ask(self.api, self.variant.model)
        self.stopwatch.lap("starts")
        record = await _record(self.api, first.request_id)
        self._check(record)
        return Sample(
            variant=name,
            ttft_s=first.ttft_s,
            again_ttft_s=again.ttft_s,
            weight_bytes=record.weight_bytes,
            largest_stage_bytes=self.largest_stage_bytes,
            fetched_bytes=record.weight_bytes - record.bytes_from_cache,
            fetch_s=fetch_took_s(record.steps),
            path=tuple(
                PathPart(part.step.actor, part.step.name, share_of(part.step), part.seconds)
                for part in critical_path(record.steps)
            ),
        )

    def _check(self, record: ColdStartInfo) -> None:
        """It is the kind of start that is to be measured, whatever the planner thinks of it."""
        spawns = [step for step in record.steps if step.name == "spawn"]
        assert len(spawns) == self.variant.num_stages, f"{len(spawns)} stages were planned"
        origin = "standby" if self.variant.standby_runtimes else "launched"
        assert {step.detail for step in spawns} == {origin}, "standbys were not used as asked"


async def _ask(api: ApiClient, model: str) -> _Answer:
    """Reads the whole answer; the time is that of its first text, or of its end without any."""
    request_id, ttft_s, sent_s = "", None, time.monotonic()
    async for event in api.chat(model, QUESTION, MAX_TOKENS):
        request_id = request_id or event.request_id
        if event.text and ttft_s is None:
            ttft_s = time.monotonic() - sent_s
    return _Answer(request_id, time.monotonic() - sent_s if ttft_s is None else ttft_s)


async def _record(api: ApiClient, request_id: str) -> ColdStartInfo:
    """Once the last heartbeats have told its ends."""

    async def complete() -> ColdStartInfo | None:
        record = await api.cold_start_of(request_id)
        return record if record is not None and record.is_complete else None

    found = await eventually(complete, timeout_s=TIMEOUT_S, poll_s=0.1, what="the whole record")
    assert isinstance(found, ColdStartInfo)
    return found
