"""Looking at the stack from outside: its processes and what the API says it holds."""

import os
from pathlib import Path

from deploy.local.processes.orphans import has_variable
from deploy.local.processes.procfs import process_name
from deploy.local.stack import LocalStack
from services.worker.frames.process_names import WORKER
from tests.acceptance.client import Client, Json
from tests.support.processtable import arguments_of
from tests.support.waiting import eventually

_RUNTIME = "services.worker.runtime"
_STANDBY = "services.worker.runtime.standby"


def worker_pids(stack: LocalStack) -> set[int]:
    """Worker processes of this stack's agents, also of agents that are dead by now."""
    return {pid for pid in _all_pids() if _is_worker(pid) and _is_of(stack, pid)}


def _is_worker(pid: int) -> bool:
    """A standby keeps its zygote's command line when it becomes a worker, but not its name."""
    arguments = arguments_of(pid)
    return _RUNTIME in arguments or (_STANDBY in arguments and process_name(pid) == WORKER)


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def worker_arguments(pid: int) -> list[str]:
    """Its command line, empty once it is gone; the last argument is its agent's pid."""
    return arguments_of(pid)


def _is_of(stack: LocalStack, pid: int) -> bool:
    """A worker is named by its agent's pid (its last argument); agents that died left theirs."""
    arguments = arguments_of(pid)
    agents = known_agent_pids(stack)
    return bool(arguments) and arguments[-1].isdigit() and int(arguments[-1]) in agents


_AGENTS_SEEN: dict[int, set[int]] = {}


def known_agent_pids(stack: LocalStack) -> set[int]:
    """Pids that this stack's agents have had whenever somebody looked."""
    seen = _AGENTS_SEEN.setdefault(id(stack), set())
    for name in stack.processes:
        if name.startswith("agent-") and (pid := stack.pid(name)) is not None:
            seen.add(pid)
    return seen


def stack_pids(stack: LocalStack) -> set[int]:
    """Every process that this stack's supervisor started."""
    is_ours = has_variable("HYDRASERVE_SUPERVISED_STATE", str(stack.options.state.path))
    return {pid for pid in _all_pids() if is_ours(Path(f"/proc/{pid}"))}


async def nodes(client: Client) -> list[Json]:
    found: list[Json] = await client.get("/api/v1/nodes")
    return found


async def pools_filled(stack: LocalStack, client: Client, *, timeout_s: float = 60) -> None:
    """Every node's agent has said that its standby processes are ready."""
    wanted = stack.options.standby_runtimes

    async def is_filled() -> bool:
        return all(node["num_standbys"] >= wanted for node in await nodes(client))

    await eventually(is_filled, timeout_s=timeout_s, poll_s=0.1, what="standbys on every node")


async def reserved_bytes(client: Client) -> int:
    return sum(d["reserved_bytes"] for node in await nodes(client) for d in node["devices"])


async def live_endpoints(client: Client, model: str) -> list[Json]:
    found = await client.get("/api/v1/endpoints")
    return [endpoint for endpoint in found if endpoint["model"] == model]


async def routed(client: Client, model: str) -> None:
    """Its gateway knows the route to every endpoint of the model: from now on requests are warm."""

    async def is_routed() -> bool:
        text = (await client.http.get("/metrics")).text
        known = [f'endpoint="{e["id"]}"' in text for e in await live_endpoints(client, model)]
        return bool(known) and all(known)

    await eventually(is_routed, timeout_s=30, what=f"a route to {model}")


async def settled(stack: LocalStack, client: Client, *, timeout_s: float = 30) -> None:
    """Nothing is held: no worker process, no reserved device memory."""

    async def is_settled() -> bool:
        return not worker_pids(stack) and await reserved_bytes(client) == 0

    await eventually(is_settled, timeout_s=timeout_s, poll_s=0.1, what="releasing all memory")
