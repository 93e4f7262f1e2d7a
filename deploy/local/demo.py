"""`demo`: a model that nobody uses answers a chat request, goes idle, and answers again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from deploy.local.api import ApiClient
from deploy.local.apitypes import ColdStartInfo, ModelInfo, NodeInfo
from deploy.local.demo_model import MODEL_NAME
from deploy.local.drawing import gantt, path_table, timeline_table
from deploy.local.errors import DemoFailed, LocalStackError
from deploy.local.options import StackOptions
from deploy.local.stack import LocalStack
from deploy.local.workerprocesses import descendants
from libs.common.criticalpath import critical_path

_QUESTION = "What is the capital of France?"
_EXPECTED = "Paris"
_MAX_TOKENS = 40
_KEEP_ALIVE_S = 3.0
_IMPORT_TIMEOUT_S = 600.0
_IDLE_TIMEOUT_S = 60.0
_RECORD_TIMEOUT_S = 15.0  # a node's last step arrives with a heartbeat after the answer
_POLL_PERIOD_S = 0.2
T = TypeVar("T")


async def run_demo(options: StackOptions, source: Path, console: Console) -> int:
    """The exit code. What went wrong is printed with the ends of the logs."""
    console.rule("1. A real stack on this machine", align="left")
    async with LocalStack(options) as stack, ApiClient(stack.gateway_url, stack.api_key) as api:
        try:
            await Demo(stack, api, console).show(source)
        except LocalStackError as error:
            console.print(f"\n{error}", style="bold red", markup=False, soft_wrap=True)
            _print_logs(stack, console)
            return 1
    return 0


@dataclass(frozen=True)
class Asked:
    """One request: what came back, when the first token came, and its cold start's record."""

    text: str
    first_token_s: float
    cold_start: ColdStartInfo


class Demo:
    def __init__(self, stack: LocalStack, api: ApiClient, console: Console) -> None:
        self._stack = stack
        self._api = api
        self._console = console

    async def show(self, source: Path) -> None:
        """The whole story. Raises ApiError, DemoFailed."""
        self._console.rule("2. Registering the model", align="left")
        await self._register(source)
        self._console.rule("3. A request to a model that holds no memory", align="left")
        cold = await self._ask()
        self._show_cold_start(cold)
        self._console.rule("4. Nobody asks any more", align="left")
        await self._show_idle()
        self._console.rule("5. A request to weights in the host cache", align="left")
        warm = await self._ask()
        self._show_cold_start(warm)
        self._conclude(cold, warm)

    async def _register(self, source: Path) -> None:
        await self._api.ensure_model(MODEL_NAME, source, {"keep_alive_s": _KEEP_ALIVE_S})
        async for model in self._api.wait_imported(MODEL_NAME, _IMPORT_TIMEOUT_S):
            self._console.print(describe_model(model))

    async def _ask(self) -> Asked:
        """Sends the question and prints what comes, as it comes."""
        self._console.print(f"> {_QUESTION}", style="bold")
        request_id, text = "", ""
        began_s, first_token_s = time.monotonic(), 0.0
        async for event in self._api.chat(MODEL_NAME, _QUESTION, _MAX_TOKENS):
            request_id = request_id or event.request_id
            if event.progress and not text:
                self._console.print(f"  {event.progress}", style="dim", markup=False)
            if event.text:
                first_token_s = first_token_s or time.monotonic() - began_s
                text += event.text
                self._console.print(event.text, end="", style="green", markup=False)
        self._console.print()
        if _EXPECTED not in text:
            raise DemoFailed(f"the answer {text!r} does not contain {_EXPECTED!r}")
        return Asked(text, first_token_s, await self._record(request_id))

    async def _record(self, request_id: str) -> ColdStartInfo:
        """The cold start that the request waited for, once its last step has been reported."""

        async def find() -> ColdStartInfo | None:
            record = await self._api.cold_start_of(request_id)
            return record if record and record.has_ended("first_token") else None

        return await _poll(find, _RECORD_TIMEOUT_S, "the cold start's record is not complete")

    def _show_cold_start(self, asked: Asked) -> None:
        record = asked.cold_start
        title = f"{record.id}: first token after {asked.first_token_s:.2f} s"
        path = critical_path(record.steps)
        self._console.print(timeline_table(record.steps, title))
        self._console.print(gantt(record.steps, path))
        self._console.print(path_table(path))
        self._console.print(
            f"{_megabytes(record.weight_bytes)} of weights, "
            f"{_megabytes(record.bytes_from_cache)} of them from the host cache\n",
            soft_wrap=True,
        )

    async def _show_idle(self) -> None:
        """Waits for the keep-alive to pass, then shows that nothing is held."""

        async def find() -> list[NodeInfo] | None:
            nodes = await self._api.nodes()
            is_idle = not any(node.reserved_bytes for node in nodes) and not self._workers()
            return nodes if is_idle else None

        self._console.print(
            f"keep-alive is {_KEEP_ALIVE_S:g} s; {len(self._workers())} worker runs"
        )
        nodes = await _poll(find, _IDLE_TIMEOUT_S, "the idle endpoint still holds memory")
        for node in nodes:
            self._console.print(
                f"  {node.node_id}: {_megabytes(node.reserved_bytes)} of "
                f"{_megabytes(node.device_bytes)} device memory held, "
                f"{_megabytes(node.cached_bytes)} of weights in the host cache",
                soft_wrap=True,
            )
        self._console.print("  0 worker processes in the process table\n")

    def _workers(self) -> list[int]:
        """What runs below the agents."""
        names = [name for name in self._stack.processes if name.startswith("agent-")]
        return descendants(pid for name in names if (pid := self._stack.pid(name)))

    def _conclude(self, cold: Asked, warm: Asked) -> None:
        if warm.cold_start.bytes_from_cache < warm.cold_start.weight_bytes:
            raise DemoFailed("the second start did not find the weights in the host cache")
        self._console.print(
            f"First token after {cold.first_token_s:.2f} s from the object store, "
            f"after {warm.first_token_s:.2f} s from the host cache.",
            style="bold",
            soft_wrap=True,
        )
        self._console.print("`make up` keeps such a stack running.")


def describe_model(model: ModelInfo) -> str:
    if not model.bytes_total:
        return f"{model.name}: {model.state}"
    done = f"{_megabytes(model.bytes_done)} of {_megabytes(model.bytes_total)}"
    return f"{model.name}: {model.state}, {done}"


async def _poll(find: Callable[[], Awaitable[T | None]], timeout_s: float, complaint: str) -> T:
    """What `find` finds. Raises DemoFailed with the complaint when the time is over."""
    deadline = time.monotonic() + timeout_s
    while (found := await find()) is None:
        if time.monotonic() > deadline:
            raise DemoFailed(f"{complaint} after {timeout_s:g} s")
        await asyncio.sleep(_POLL_PERIOD_S)
    return found


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"


def _print_logs(stack: LocalStack, console: Console) -> None:
    for name, tail in stack.log_tails().items():
        if tail:
            console.rule(f"the end of {name}'s log", align="left", style="dim")
            console.print("\n".join(tail.splitlines()[-15:]), markup=False, soft_wrap=True)
