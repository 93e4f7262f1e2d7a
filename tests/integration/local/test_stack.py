"""The supervisor with stand-ins for the services and the real servers."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio

from deploy.local.errors import SharedMemoryTooSmall, StartFailed, StateFolderBusy, StateFolderError
from deploy.local.nodes import NodeOptions
from deploy.local.options import StackOptions
from deploy.local.processes.procfs import is_running
from deploy.local.services import MODULES
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from libs.common.bus.subjects import Service
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.records.migrate import migrate
from libs.common.settings import (
    BusSettings,
    DatabaseSettings,
    Environment,
    ObjectStoreSettings,
)
from tests.support.waiting import eventually

STANDIN = "tests.integration.local.standin"
STANDINS = dict.fromkeys(MODULES, STANDIN)
SERVERS = {"nats", "postgres", "s3"}
SERVICES = {"scheduler-0", "gateway-0", "fetcher-n0", "agent-n0"}


def options(folder: Path, **changes: Any) -> StackOptions:
    values: dict[str, Any] = {
        "state": StateFolder(folder),
        "nodes": (NodeOptions("n0"),),
        "modules": STANDINS,
    }
    return StackOptions(**(values | changes))


def seen(folder: Path, name: str) -> Any:
    return json.loads((folder / "health" / f"{name}.seen").read_text())


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def start_supervisor(folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.integration.local.hold_stack", str(folder)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """A stack for tests that leave it as they found it."""
    async with LocalStack(options(tmp_path_factory.mktemp("stack"))) as stack:
        yield stack


async def test_a_stack_is_ready_when_entered_and_gone_when_left(tmp_path: Path) -> None:
    async with LocalStack(options(tmp_path)) as stack:
        assert stack.processes.keys() == SERVERS | SERVICES
        pids = [pid for name in stack.processes if (pid := stack.pid(name))]
        pids += [pid for name in SERVICES for pid in seen(tmp_path, name)["pids"]]
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{stack.gateway_url}/healthz")).status_code == 200
        shared = Path(seen(tmp_path, "fetcher-n0")["environment"]["HYDRA_SHM_DIR"])
        assert all(map(is_running, pids))
        assert mode(shared) == 0o700

    assert not any(map(is_running, pids))
    assert not shared.parent.exists()


async def test_a_second_start_finds_the_same_credentials_and_data(tmp_path: Path) -> None:
    async with LocalStack(options(tmp_path)) as stack:
        first_key = stack.api_key
        connection = await stack.servers.postgres.connect("hydra")
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
        await connection.close()

    async with LocalStack(options(tmp_path)) as stack:
        connection = await stack.servers.postgres.connect("hydra")
        value = await connection.fetchval("SELECT value FROM kept")
        await connection.close()
        assert (stack.api_key, value) == (first_key, 1)


async def test_secrets_stand_in_private_files_and_in_no_environment(tmp_path: Path) -> None:
    async with LocalStack(options(tmp_path)):
        environments = [json.dumps(seen(tmp_path, name)["environment"]) for name in SERVICES]
    files = list((tmp_path / "credentials").iterdir())

    assert len(files) > 10
    assert set(map(mode, files)) == {0o600}
    assert not [path.name for path in files if path.read_text().strip() in "".join(environments)]
    assert mode(tmp_path / "nats" / "nats.conf") == 0o600
    assert mode(tmp_path / "s3" / "users.toml") == 0o600
    assert {mode(tmp_path / name) for name in ("nats", "postgres", "s3", "logs")} == {0o700}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["nats", "postgres", "s3", "scheduler-0", "agent-n0"])
async def test_a_killed_child_is_started_again_with_its_group_gone(
    shared: LocalStack, name: str
) -> None:
    first = shared.pid(name)
    left = seen(shared.options.state.path, name)["pids"] if name in SERVICES else [first]

    shared.kill(name)
    await eventually(lambda: shared.pid(name) not in (None, first))
    await shared.wait_ready(name)

    assert not any(map(is_running, left))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_held_child_stays_down_until_it_is_started(shared: LocalStack) -> None:
    num_starts = shared.processes["s3"].num_starts
    shared.hold("s3")
    shared.kill("s3")
    await eventually(lambda: shared.pid("s3") is None)

    await shared.start("s3")

    assert shared.processes["s3"].num_starts == num_starts + 1
    assert shared.pid("s3") is not None


async def test_a_service_that_cannot_start_is_named_with_the_end_of_its_log(
    tmp_path: Path,
) -> None:
    environment = {"HYDRA_STANDIN_FAILS": "agent-n0"}

    with pytest.raises(StartFailed, match="agent-n0 ended with exit code 1") as failure:
        async with LocalStack(options(tmp_path, service_env=environment)):
            pass

    assert "the stand-in was told to fail" in failure.value.log_tail
    async with LocalStack(options(tmp_path)) as stack:
        assert stack.pid("agent-n0") is not None


async def test_data_without_its_credentials_is_refused_with_the_folder_named(
    tmp_path: Path,
) -> None:
    async with LocalStack(options(tmp_path)):
        pass
    (tmp_path / "credentials" / "postgres-administrator").unlink()

    with pytest.raises(StateFolderError, match=f"{tmp_path}/postgres: made with other credentials"):
        async with LocalStack(options(tmp_path)):
            pass


async def test_other_lost_credentials_are_made_anew(tmp_path: Path) -> None:
    async with LocalStack(options(tmp_path)):
        pass
    for path in (tmp_path / "credentials").glob("*-*"):
        if path.name != "postgres-administrator":
            path.unlink()

    async with LocalStack(options(tmp_path)) as stack:
        settings = stack.servers.database_settings("gateway")
        connection = await asyncpg.connect(settings.url, password=settings.password, timeout=5)
        await connection.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_second_supervisor_is_refused_with_the_first_ones_process_id(
    shared: LocalStack,
) -> None:
    with pytest.raises(StateFolderBusy, match=f"process id {os.getpid()}") as refusal:
        async with LocalStack(shared.options):
            pass

    assert refusal.value.pid == os.getpid()


async def test_nothing_of_a_killed_supervisor_outlives_the_next_start(tmp_path: Path) -> None:
    supervisor = start_supervisor(tmp_path)
    try:
        await eventually(lambda: (tmp_path / "is-up").exists(), timeout_s=60)
    finally:
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
    pids = [int(pid) for pid in (tmp_path / "is-up").read_text().split()]
    pids += [pid for name in SERVICES for pid in seen(tmp_path, name)["pids"]]
    shared = Path(seen(tmp_path, "fetcher-n0")["environment"]["HYDRA_SHM_DIR"]).parent

    # Before the next start: the kernel has ended every process.
    await eventually(lambda: not any(map(is_running, pids)))
    async with LocalStack(options(tmp_path)) as stack:
        assert stack.pid("postgres") is not None
        assert not shared.exists()


@pytest.mark.parametrize("at", ["postgres/data.unfinished", "logs/s3.log", "health/agent-n0.seen"])
async def test_a_first_start_killed_in_the_middle_does_not_spoil_the_next_one(
    tmp_path: Path, at: str
) -> None:
    supervisor = start_supervisor(tmp_path)
    try:
        await eventually((tmp_path / at).exists, timeout_s=60)
    finally:
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()

    async with LocalStack(options(tmp_path)) as stack:
        assert all(stack.pid(name) is not None for name in stack.processes)


@pytest.mark.asyncio(loop_scope="module")
async def test_credentials_for_tools_are_those_of_the_services(shared: LocalStack) -> None:
    environment = Environment(seen(shared.options.state.path, "gateway-0")["environment"])

    assert BusSettings.read(environment) == shared.servers.bus_settings(Service.GATEWAY)
    assert DatabaseSettings.read(environment) == shared.servers.database_settings("gateway")
    assert ObjectStoreSettings.read(environment) == shared.servers.object_store_settings("gateway")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_operator_sweeps_objects_with_the_stacks_own_credentials(
    shared: LocalStack,
) -> None:
    servers, orphan = shared.servers, "units/" + "0" * 64
    await migrate(servers.database_settings("scheduler"))
    environment = {
        "HYDRA_SECRETS": str(shared.options.state.credentials),
        "HYDRA_POSTGRES_ADDRESS": urlsplit(servers.postgres.url("hydra", "hydra")).netloc.split(
            "@"
        )[1],
        "HYDRA_S3_ENDPOINT": servers.s3.endpoint,
        "HYDRA_STORE_USERS": "given",
    }

    async def sweep(*options: str) -> tuple[str, ...]:
        command = (sys.executable, "-m", "deploy.bootstrap", "sweep-objects", *options)
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        return await store.list_keys("units/")

    async with S3ObjectStore(servers.object_store_settings("fetcher")) as store:
        await store.put_bytes(orphan, b"of a deleted model", digest="0" * 64)
        assert orphan in await sweep()
        assert orphan not in await sweep("--delete")


async def test_host_caches_are_no_larger_than_shared_memory(tmp_path: Path) -> None:
    nodes = (NodeOptions("n0", host_cache_bytes=2**60), NodeOptions("n1", host_cache_bytes=2**60))

    async with LocalStack(options(tmp_path, nodes=nodes)):
        environments = [seen(tmp_path, f"fetcher-{name}")["environment"] for name in ("n0", "n1")]
        memory = shutil.disk_usage("/dev/shm")

    caches_bytes = [int(environment["HYDRA_HOST_CACHE_BYTES"]) for environment in environments]
    assert 0 < sum(caches_bytes) < memory.total


async def test_nothing_is_started_where_the_host_caches_cannot_hold_what_they_must(
    tmp_path: Path,
) -> None:
    with pytest.raises(SharedMemoryTooSmall, match="--shm-size"):
        async with LocalStack(options(tmp_path, min_cached_bytes=2**60)):
            pass

    assert not (tmp_path / "health").exists()
