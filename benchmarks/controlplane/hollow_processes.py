"""Starts the processes in which the hollow nodes run."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.controlplane.hollow.settings import (
    CatalogueSettings,
    DeviceSettings,
    HollowSettings,
    NatsSettings,
    NatsUserSettings,
)
from benchmarks.controlplane.plan import (
    CORES_PER_DEVICE,
    DEVICE_BYTES,
    DEVICES_PER_NODE,
    HOST_CACHE_BYTES,
    NIC_BYTES_PER_S,
    Plan,
)
from deploy.local.processes.environment import base_environment
from deploy.local.services import Connections

NAME_PREFIX = "hollow"
_NUM_PROCESSES = 2
# Nodes are other machines: what is measured must not wait for their processors.
_NICENESS = 5
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0


@asynccontextmanager
async def running_nodes(
    plan: Plan, num_nodes: int, connections: Connections, folder: Path
) -> AsyncIterator[list[int]]:
    """Process ids, once every node runs. Raises TimeoutError, RuntimeError."""
    async with AsyncExitStack() as stack:
        pids = []
        for first, count in _shares(num_nodes):
            run_dir = folder / f"{NAME_PREFIX}-{first}"
            settings = _settings(plan, connections, run_dir, first, count)
            pids.append(await stack.enter_async_context(_running(settings)))
        yield pids


def _shares(num_nodes: int) -> list[tuple[int, int]]:
    """The first index and the number of nodes of each process."""
    half = num_nodes // _NUM_PROCESSES
    shares = [(0, half), (half, num_nodes - half)]
    return [(first, count) for first, count in shares if count]


def _settings(
    plan: Plan, connections: Connections, run_dir: Path, first: int, count: int
) -> HollowSettings:
    passwords = connections.nats_password_files
    return HollowSettings(
        nats=NatsSettings(
            url=connections.nats_url,
            fetcher=NatsUserSettings(user="fetcher", password_file=passwords["fetcher"]),
            worker=NatsUserSettings(user="worker", password_file=passwords["agent"]),
        ),
        run_dir=run_dir,
        models=CatalogueSettings(num_models=plan.num_models, num_large=plan.num_large),
        num_nodes=count,
        first_index=first,
        name_prefix=NAME_PREFIX,
        devices=DeviceSettings(
            count=DEVICES_PER_NODE, memory_bytes=DEVICE_BYTES, cores=CORES_PER_DEVICE
        ),
        nic_bytes_per_s=NIC_BYTES_PER_S,
        cache_bytes=HOST_CACHE_BYTES,
        cached_units=plan.cached_units,
        seed=plan.seed,
        log_level="CRITICAL",
    )


@asynccontextmanager
async def _running(settings: HollowSettings) -> AsyncIterator[int]:
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    path = settings.run_dir / "settings.json"
    path.write_text(settings.model_dump_json())
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", str(_NICENESS)),
        *(sys.executable, "-m", "benchmarks.controlplane.hollow", str(path)),
        env=base_environment(),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await _until_running(process)
        yield process.pid
    finally:
        await _stop(process)


async def _until_running(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None, "it is a pipe"
    async with asyncio.timeout(_START_TIMEOUT_S):
        line = await process.stdout.readline()
    if b"nodes run" not in line:
        raise RuntimeError(f"hollow nodes did not start: {line.decode()!r}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
