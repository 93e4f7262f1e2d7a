"""`demo`: a model that nobody uses answers a chat request, goes idle, and answers again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from deploy.local.demo_model import CACHED_BYTES, MODEL_NAME, TARGETS
from deploy.local.errors import DemoFailed, LocalStackError
from deploy.local.options import StackOptions
from deploy.local.processes.worker_processes import worker_processes
from deploy.local.report.api import ApiClient
from deploy.local.report.api_types import ColdStartInfo, ModelInfo, NodeInfo
from deploy.local.report.demo_report import cold_start_report, megabytes
from deploy.local.stack import LocalStack

_QUESTION = "What is the capital of France?"
_EXPECTED = "Paris"
_MAX_TOKENS = 40
_KEEP_ALIVE_S = 3.0
_NODES_TIMEOUT_S = 30.0
_IMPORT_TIMEOUT_S = 600.0
_IDLE_TIMEOUT_S = 60.0
_RECORD_TIMEOUT_S = 15.0  # a node's last step arrives with a heartbeat after the answer
_POLL_PERIOD_S = 0.2
T = TypeVar("T")


@dataclass(frozen=True)
class ShownStack:
    """What the demo has to know of a stack besides its API."""

    nic_rates_bytes_per_s: Mapping[str, int]  # by node
    count_workers: Callable[[], Awaitable[int]]
    counted: str  # where they are looked for


async def run_demo(options: StackOptions, source: Path, console: Console) -> int:
    """The exit code. What went wrong is printed with the ends of the logs.

    Raises LocalStackError when the stack does not start.
    """
    options = replace(options, min_cached_bytes=CACHED_BYTES)
    console.rule("1. A real stack on this machine", align="left")
    async with LocalStack(options) as stack, ApiClient(stack.gateway_url, stack.api_key) as api:
        try:
            await Demo(_shown(stack), api, console).show(source)
        except LocalStackError as error:
            console.print(f"\n{error}", style="bold red", markup=False, soft_wrap=True)
            _print_logs(stack, console)
            return 1
    console.print("`make up` keeps such a stack running.")
    return 0


def _shown(stack: LocalStack) -> ShownStack:
    """Workers are what runs below the agents."""

    async def count_workers() -> int:
        names = [name for name in stack.processes if name.startswith("agent-")]
        return len(worker_processes(pid for name in names if (pid := stack.pid(name))))

    rates = {node.node_id: node.nic_bytes_per_s for node in stack.options.nodes}
    return ShownStack(rates, count_workers, "processes in the process table")


@dataclass(frozen=True)
class DemoAnswer:
    """One request: what came back, when the first token came, and its cold start's record."""

    text: str
    first_token_s: float
    cold_start: ColdStartInfo


class Demo:
    def __init__(self, stack: ShownStack, api: ApiClient, console: Console) -> None:
        self._stack = stack
        self._api = api
        self._console = console

    async def show(self, source: Path) -> None:
        """The whole story. Raises ApiError, DemoFailed."""
        await self._api.wait_nodes(len(self._stack.nic_rates_bytes_per_s), _NODES_TIMEOUT_S)
        self._console.rule("2. Registering the model", align="left")
        await self._register(source)
        self._console.rule("3. A request to a model that holds no memory", align="left")
        cold = await self._ask()
        self._show_cold_start(cold)
        self._console.rule("4. Nobody asks any more", align="left")
        await self._show_idle()
        self._console.rule("5. A request to weights in host caches", align="left")
        warm = await self._ask()
        self._show_cold_start(warm)
        self._conclude(cold, warm)

    async def _register(self, source: Path) -> None:
        await self._api.ensure_model(
            MODEL_NAME, source, {"keep_alive_s": _KEEP_ALIVE_S, "slo": TARGETS}
        )
        async for model in self._api.wait_imported(MODEL_NAME, _IMPORT_TIMEOUT_S):
            self._console.print(describe_model(model))

    async def _ask(self) -> DemoAnswer:
        """Sends the question and prints what comes, as it comes."""
        self._console.print(f"> {_QUESTION}", style="bold")
        request_id, text, progress = "", "", ""
        began_s, first_token_s = time.monotonic(), 0.0
        async for event in self._api.chat(MODEL_NAME, _QUESTION, _MAX_TOKENS):
            request_id = request_id or event.request_id
            if event.progress not in ("", progress) and not text:
                progress = event.progress
                self._console.print(f"  {progress}", style="dim", markup=False)
            if event.text:
                first_token_s = first_token_s or time.monotonic() - began_s
                text += event.text
                self._console.print(event.text, end="", style="green", markup=False)
        self._console.print()
        if _EXPECTED not in text:
            raise DemoFailed(f"the answer {text!r} does not contain {_EXPECTED!r}")
        return DemoAnswer(text, first_token_s, await self._record(request_id))

    async def _record(self, request_id: str) -> ColdStartInfo:
        """The cold start that the request waited for, once its last steps have been reported."""

        async def find() -> ColdStartInfo | None:
            record = await self._api.cold_start_of(request_id)
            return record if record and record.is_complete else None

        return await _poll(find, _RECORD_TIMEOUT_S, "the cold start's record is not complete")

    def _show_cold_start(self, asked: DemoAnswer) -> None:
        rates = self._stack.nic_rates_bytes_per_s
        report = cold_start_report(
            asked.cold_start, asked.first_token_s, rates, self._console.width
        )
        for item in report:
            self._console.print(item, soft_wrap=isinstance(item, str))

    async def _show_idle(self) -> None:
        """Waits for the keep-alive to pass, then shows that nothing is held."""

        async def find() -> list[NodeInfo] | None:
            nodes = await self._api.nodes()
            is_reserved = any(node.reserved_bytes for node in nodes)
            return None if is_reserved or await self._stack.count_workers() else nodes

        num_workers = await self._stack.count_workers()
        self._console.print(
            f"{num_workers} worker {self._stack.counted}; they may idle for {_KEEP_ALIVE_S:g} s"
        )
        nodes = await _poll(find, _IDLE_TIMEOUT_S, "the idle endpoint still holds memory")
        for node in nodes:
            self._console.print(
                f"  {node.node_id}: {megabytes(node.reserved_bytes)} of "
                f"{megabytes(node.device_bytes)} device memory held, "
                f"{megabytes(node.cached_bytes)} of weights in the host cache",
                soft_wrap=True,
            )
        self._console.print(f"  0 worker {self._stack.counted}\n")

    def _conclude(self, cold: DemoAnswer, warm: DemoAnswer) -> None:
        if warm.cold_start.bytes_from_cache < warm.cold_start.weight_bytes:
            raise DemoFailed("the second start did not find the weights in host caches")
        self._console.print(
            f"First token after {cold.first_token_s:.2f} s from the object store, "
            f"after {warm.first_token_s:.2f} s from host caches.",
            style="bold",
            soft_wrap=True,
        )


def describe_model(model: ModelInfo) -> str:
    if not model.bytes_total:
        return f"{model.name}: {model.state}"
    done = f"{megabytes(model.bytes_done)} of {megabytes(model.bytes_total)}"
    return f"{model.name}: {model.state}, {done}"


async def _poll(find: Callable[[], Awaitable[T | None]], timeout_s: float, complaint: str) -> T:
    """What `find` finds. Raises DemoFailed with the complaint when the time is over."""
    deadline = time.monotonic() + timeout_s
    while (found := await find()) is None:
        if time.monotonic() > deadline:
            raise DemoFailed(f"{complaint} after {timeout_s:g} s")
        await asyncio.sleep(_POLL_PERIOD_S)
    return found


def _print_logs(stack: LocalStack, console: Console) -> None:
    for name, tail in stack.log_tails().items():
        if tail:
            console.rule(f"the end of {name}'s log", align="left", style="dim")
            console.print("\n".join(tail.splitlines()[-15:]), markup=False, soft_wrap=True)
