"""One run: a fresh stack that knows the models, a start that does not count, then the trace."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3

from benchmarks.coldpath.variants import MBIT_BYTES_PER_S
from benchmarks.machine import code_digest, processor
from benchmarks.replay.client import replay
from benchmarks.replay.collecting import StackReader, reader, request_records, start_records
from benchmarks.replay.models import MODELS, WARM_UP
from benchmarks.replay.record import RunRecord
from benchmarks.replay.trace import TraceRequest, TraceShape, draw
from deploy.local.nodes import NodeOptions, equal_nodes
from deploy.local.options import StackOptions
from deploy.local.report.api import ApiClient
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from libs.common.startmode import StartMode
from tests.support.waiting import eventually

NUM_NODES = 4
NIC_BYTES_PER_S = 100 * MBIT_BYTES_PER_S
DEVICE_BYTES = 2 * 2**30
HOST_CACHE_BYTES = 2**30
TIMEOUT_S = 120.0
REST_S = 3.0
_RECORDS_S = 2.5  # until heartbeats have told the last steps, and rows of requests are written


@dataclass(frozen=True)
class RunOptions:
    """What is replayed, and how the stack is told to start endpoints."""

    seed: int
    minutes: float
    mode: StartMode = StartMode.HYDRA
    standby_runtimes: int = 2  # of each node
    can_consolidate: bool = True
    shape: TraceShape = field(default_factory=TraceShape)

    @property
    def trace(self) -> list[TraceRequest]:
        return draw(self.shape, MODELS, 60 * self.minutes, self.seed)

    def as_json(self) -> dict[str, Any]:
        """With whose figures may stand beside its own."""
        models = blake3(repr((MODELS, nodes())).encode()).hexdigest()[:16]
        own = {**asdict(self), "mode": self.mode.value, "models": models}
        return {**own, "code": code_digest(), "processor": processor()}


def nodes() -> tuple[NodeOptions, ...]:
    table: Mapping[str, object] = {
        "nic": NIC_BYTES_PER_S,
        "memory": DEVICE_BYTES,
        "host_cache": HOST_CACHE_BYTES,
        "cores": 1,
    }
    return equal_nodes(NUM_NODES, table)


async def run(state: StateFolder, options: RunOptions) -> RunRecord:
    """On a stack of its own in `state`, where the models are imported."""
    stack_options = StackOptions(
        state=state,
        nodes=nodes(),
        standby_runtimes=options.standby_runtimes,
        start_mode=options.mode,
        # Nodes are not avoided for what became of workers of an earlier run.
        service_env={
            "HYDRA_SUSPECT_S": "0.1",
            "HYDRA_CONSOLIDATION": "on" if options.can_consolidate else "off",
        },
    )
    async with AsyncExitStack() as exits:
        stack = await exits.enter_async_context(LocalStack(stack_options))
        api = await exits.enter_async_context(ApiClient(stack.gateway_url, stack.api_key))
        found = await exits.enter_async_context(reader(stack))
        await api.wait_nodes(NUM_NODES, TIMEOUT_S)
        await _warm_up(api, found, options)
        return await _replayed(api, found, options)


async def _warm_up(api: ApiClient, found: StackReader, options: RunOptions) -> None:
    """Until nothing goes on, and every node has the standbys that it shall have."""
    async for _ in api.chat(WARM_UP, "hi", 4):
        pass
    wanted = NUM_NODES * options.standby_runtimes

    async def is_at_rest() -> bool:
        return not await found.live_endpoints() and await found.standbys() >= wanted

    await eventually(is_at_rest, timeout_s=TIMEOUT_S, poll_s=0.2, what="nodes at rest")
    await asyncio.sleep(REST_S)


async def _replayed(api: ApiClient, found: StackReader, options: RunOptions) -> RunRecord:
    names, trace = [model.name for model in MODELS], options.trace
    byte_s, began_at = await found.device_byte_s(), datetime.now(UTC)
    answers = await replay(api, trace)
    load_average = os.getloadavg()[1]

    async def is_empty() -> bool:
        return not await found.live_endpoints()

    await eventually(is_empty, timeout_s=TIMEOUT_S, poll_s=0.5, what="the end of all endpoints")
    await asyncio.sleep(_RECORDS_S)
    requests, starts = await found.requests(names), await found.starts(names, began_at)
    measured, launch_s = await found.measured()
    return RunRecord(
        run=options.as_json(),
        requests=tuple(request_records(trace, answers, requests, starts, began_at)),
        starts=tuple(start_records(starts, requests, began_at)),
        device_byte_s=await found.device_byte_s() - byte_s,
        measured=measured,
        launch_s=launch_s,
        models=await found.facts(names),
        load_average=load_average,
    )


def num_unserved(record: RunRecord) -> int:
    return sum(not request.is_served for request in record.requests)


def described(record: RunRecord) -> str:
    """In one line."""
    requests: Sequence[Any] = record.requests
    cold = sum(request.is_cold for request in requests)
    met = sum(request.has_met_ttft for request in requests)
    cost = record.device_byte_s / 1e9 / max(1, len(requests))
    return (
        f"{len(requests)} requests, {cold} cold, {len(record.starts)} starts, {met} with their "
        f"first token in time, {num_unserved(record)} not served, {cost:.2f} GB s each"
    )
