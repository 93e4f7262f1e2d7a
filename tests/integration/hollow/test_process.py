"""A process of hollow nodes as a driver runs it."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.controlplane import catalogue
from benchmarks.controlplane.hollow.control.client import ControlFailed, ask
from benchmarks.controlplane.hollow.control.messages import (
    KillWorkers,
    ReadStatus,
    Record,
    Restart,
    SetSilent,
    StopRecording,
)
from libs.common.bus.bus import NatsBus
from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
    FetchSpec,
    LayerRange,
    NodeDesired,
    WorkerSpec,
)
from libs.common.bus.subjects import (
    NODE_AGENT_HEARTBEAT,
    NODE_DESIRED_AGENT,
    NODE_DESIRED_FETCHER,
    NODE_FETCHER_HEARTBEAT,
    Service,
)
from libs.common.errors import BusTimeout
from libs.common.states import FetchClass, FetchPurpose, MemberRole, WorkerState
from tests.integration.servers import RunningNats
from tests.unit.fetcher.worlds import eventually

NODES = ("hollow-00005", "hollow-00006", "hollow-00007")


@dataclass
class Driver:
    folder: Path
    bus: NatsBus
    process: asyncio.subprocess.Process
    agents: dict[str, AgentHeartbeat] = field(default_factory=dict)
    fetchers: dict[str, FetcherHeartbeat] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "control.sock"

    async def hear_agent(self, beat: AgentHeartbeat) -> None:
        self.agents[beat.node_id] = beat

    async def hear_fetcher(self, beat: FetcherHeartbeat) -> None:
        self.fetchers[beat.node_id] = beat

    async def desire(self, desired: NodeDesired) -> None:
        for subject in (NODE_DESIRED_FETCHER, NODE_DESIRED_AGENT):
            await self.bus.request(subject, desired.node_id, desired, timeout_s=2)

    def states(self, node_id: str) -> list[WorkerState]:
        return [worker.state for worker in self.agents[node_id].workers]


@pytest.fixture
async def driver(nats_server: RunningNats, tmp_path: Path) -> AsyncIterator[Driver]:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(_settings(nats_server, tmp_path)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.controlplane.hollow", str(settings)),
        stdout=asyncio.subprocess.PIPE,
    )
    bus = await NatsBus.connect(
        nats_server.settings(Service.SCHEDULER), Service.SCHEDULER, name="scheduler"
    )
    driver = Driver(tmp_path, bus, process)
    await bus.subscribe(NODE_AGENT_HEARTBEAT, None, driver.hear_agent)
    await bus.subscribe(NODE_FETCHER_HEARTBEAT, None, driver.hear_fetcher)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"3 hollow nodes run\n"
        await eventually(lambda: driver.agents.keys() == driver.fetchers.keys() == set(NODES))
        yield driver
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        await bus.close()


def _settings(nats: RunningNats, folder: Path) -> dict[str, object]:
    users = {}
    for service in (Service.WORKER, Service.FETCHER):
        bus, password_file = nats.settings(service), folder / f"{service}-password"
        password_file.write_text(bus.password)
        users[service.value] = {"user": bus.user, "password_file": str(password_file)}
    return {
        "nats": {"url": nats.url, **users},
        "run_dir": str(folder / "run"),
        "num_nodes": 3,
        "first_index": 5,
        "cached_units": 100,
        "num_standbys": 2,
        "models": {"num_models": 50},
    }


def _desired(node_id: str, number: int, *worker_ids: str) -> NodeDesired:
    digest, units = catalogue.manifest_digest(number), catalogue.unit_digests(number)
    workers = tuple(
        WorkerSpec(
            worker_id=worker_id,
            endpoint_id=f"endpoint-{worker_id}",
            endpoint_epoch=1,
            model_id=f"model-{number}",
            manifest_digest=digest,
            generation=1,
            role=MemberRole.ENTRY,
            stage_index=0,
            num_stages=1,
            layers=LayerRange(first_layer=0, last_layer=catalogue.NUM_LAYERS),
            unit_digests=units,
            device_index=index,
            device_bytes=2**30,
            kv_bytes=2**20,
            max_slots=4,
            max_context_tokens=1024,
            cores=1,
            start_timeout_ms=60_000,
        )
        for index, worker_id in enumerate(worker_ids)
    )
    fetch = FetchSpec(
        fetch_id="fetch-a",
        purpose=FetchPurpose.START,
        fetch_class=FetchClass.INTERACTIVE,
        manifest_digest=digest,
        unit_digests=units,
    )
    return NodeDesired(
        node_id=node_id, leader_epoch=1, version=1, workers=workers, fetches=(fetch,)
    )


async def test_nodes_tell_their_devices_and_the_standbys_that_wait(driver: Driver) -> None:
    beat = driver.agents[NODES[0]]

    assert [(d.index, d.kind) for d in beat.devices] == [(index, "cuda") for index in range(8)]
    assert beat.num_standbys == 2
    held = {node_id: fetcher.cache_used_bytes for node_id, fetcher in driver.fetchers.items()}
    assert all(held.values())


async def test_the_journal_has_what_arrived_and_how_large_heartbeats_are(driver: Driver) -> None:
    path = driver.folder / "journal.jsonl"
    await ask(driver.socket, Record(path=path, heartbeat_sample_every=1))
    await driver.desire(_desired(NODES[0], 3, "worker-a", "worker-b"))
    await eventually(lambda: driver.states(NODES[0]) == [WorkerState.READY] * 2)
    await ask(driver.socket, StopRecording())

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    desired = [line for line in lines if line["kind"] == "desired"]
    assert [(line["receiver"], line["version"], line["refused"]) for line in desired] == [
        ("fetcher", 1, None),
        ("agent", 1, None),
    ]
    assert all(line["worker_ids"] == ["worker-a", "worker-b"] for line in desired)
    assert all(line["arrived_ns"] <= line["answered_ns"] for line in desired)
    sizes = {line["sender"]: line["num_bytes"] for line in lines if line["kind"] == "heartbeat"}
    assert sizes.keys() == {"agent", "fetcher"} and all(sizes.values())


async def test_a_silent_node_answers_nobody_until_it_is_back(driver: Driver) -> None:
    await ask(driver.socket, SetSilent(node_ids=NODES[:1], is_silent=True))
    desired = _desired(NODES[0], 3)

    with pytest.raises(BusTimeout):
        await driver.bus.request(NODE_DESIRED_AGENT, NODES[0], desired, timeout_s=0.3)
    silent = (await ask(driver.socket, ReadStatus())).status
    await ask(driver.socket, SetSilent(node_ids=NODES[:1], is_silent=False))
    await driver.desire(desired)

    assert silent is not None and (silent.num_nodes, silent.num_connected) == (3, 2)


async def test_a_restarted_node_is_another_boot_without_workers(driver: Driver) -> None:
    node_id = NODES[1]
    await driver.desire(_desired(node_id, 3, "worker-a"))
    await eventually(lambda: driver.states(node_id) == [WorkerState.READY])
    agent, fetcher = driver.agents[node_id], driver.fetchers[node_id]

    await ask(driver.socket, Restart(node_ids=(node_id,)))
    await eventually(lambda: driver.agents[node_id].boot_id != agent.boot_id)
    await eventually(lambda: driver.fetchers[node_id].boot_id != fetcher.boot_id)

    assert driver.agents[node_id].workers == ()
    assert driver.fetchers[node_id].fetches == ()
    assert driver.fetchers[node_id].cache_used_bytes == fetcher.cache_used_bytes


async def test_a_killed_worker_has_failed(driver: Driver) -> None:
    await driver.desire(_desired(NODES[2], 3, "worker-a"))
    await eventually(lambda: driver.states(NODES[2]) == [WorkerState.READY])

    reply = await ask(driver.socket, KillWorkers(worker_ids=("worker-a", "worker-z")))

    assert reply.num_killed == 1
    await eventually(lambda: driver.states(NODES[2]) == [WorkerState.FAILED])


async def test_who_asks_for_a_node_that_is_not_here_is_told(driver: Driver) -> None:
    with pytest.raises(ControlFailed, match="hollow-99999"):
        await ask(driver.socket, Restart(node_ids=("hollow-99999",)))
