"""Workers of an agent get their shares of its node's compute, whatever gives them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from libs.common.bus.messages import NodeDesired, WorkerSpec
from libs.common.states import WorkerState
from libs.common.testing.bus import FakeClock, MemoryBroker
from services.worker.agent.agent import Agent
from services.worker.agent.devices.device import Device
from services.worker.agent.processes.worker_load import WorkerLoad
from services.worker.agent.settings import DeviceKind
from services.worker.agent.shares.cpu_shares import CpuShare
from services.worker.agent.shares.node_compute import NodeCompute
from services.worker.frames.frames import Ready, Registered, StartWorker, StatsChanged
from tests.support.devices import gpu
from tests.support.waiting import eventually
from tests.unit.worker.fakes import FakeLauncher, FakeProcess
from tests.unit.worker.values import worker_spec

CPU = Device(0, DeviceKind.CPU, None, 1000, cores=4)


class RecordedShares:
    def __init__(self) -> None:
        self.weights: dict[str, float] = {}

    def apply(self, shares: Sequence[CpuShare]) -> None:
        self.weights = {share.worker_id: share.weight for share in shares}


class Node:
    def __init__(self, tmp_path: Path, compute: NodeCompute) -> None:
        self.launcher = FakeLauncher()
        self.agent = Agent(
            node_id="node-a",
            boot_id="boot-a",
            devices=compute.devices,
            fetcher_socket=tmp_path / "fetcher.sock",
            launcher=self.launcher,
            bus=MemoryBroker().bus(),
            clock=FakeClock(),
            compute=compute,
        )
        self._version = 0

    async def desire(self, *workers: WorkerSpec) -> None:
        self._version += 1
        wanted = NodeDesired(
            node_id="node-a", leader_epoch=1, version=self._version, workers=workers
        )
        assert (await self.agent.follow(wanted)).refused is None

    async def started(self, worker_id: str) -> FakeProcess:
        await eventually(lambda: worker_id in self.launcher.processes)
        return self.launcher.processes[worker_id]

    async def ready(self, worker_id: str) -> StartWorker:
        process = await self.started(worker_id)
        start = await process.hear()
        assert isinstance(start, StartWorker)
        await process.say(Registered(None, None))
        await process.say(Ready())
        await eventually(lambda: self.state_of(worker_id) is WorkerState.READY)
        return start

    def state_of(self, worker_id: str) -> WorkerState:
        found = {worker.worker_id: worker.state for worker in self.agent.heartbeat().workers}
        return found[worker_id]

    async def close(self) -> None:
        for process in self.launcher.processes.values():
            await process.exit(0)
        await self.agent.close()


async def test_shares_follow_starts_reservations_and_ends(tmp_path: Path) -> None:
    cpu = RecordedShares()
    node = Node(tmp_path, NodeCompute((CPU,), cpu))
    large = worker_spec("worker-a", device_bytes=600)
    small = worker_spec("worker-b", device_bytes=200, endpoint_id="endpoint-b")
    await node.desire(large, small)
    await node.ready("worker-a")
    await node.started("worker-b")

    await node.agent.expire()
    assert cpu.weights == {"worker-a": 0.6, "worker-b": 0.6}, "one starts"
    start = await node.ready("worker-b")
    await node.agent.expire()
    assert cpu.weights == {"worker-a": 0.6, "worker-b": 0.2}
    await node.desire(large, small.model_copy(update={"device_bytes": 400}))
    await node.agent.expire()
    assert cpu.weights == {"worker-a": 0.6, "worker-b": 0.4}
    await node.launcher.processes["worker-a"].exit(0)
    await eventually(lambda: node.state_of("worker-a") is WorkerState.FAILED)
    await node.agent.expire()

    assert cpu.weights == {"worker-b": 0.4}
    assert (start.cores, start.max_threads) == (1, 4), "all cores of the device are its to use"
    await node.close()


async def test_a_process_on_a_shared_gpu_is_started_with_its_ceiling(tmp_path: Path) -> None:
    node = Node(tmp_path, NodeCompute((gpu(),), mps_pipes=Path("/run/mps")))
    await node.desire(worker_spec("worker-a", device_bytes=300))
    await node.started("worker-a")
    second = worker_spec("worker-b", device_bytes=100, endpoint_id="endpoint-b")

    await node.desire(worker_spec("worker-a", device_bytes=300), second)
    await node.started("worker-b")

    found = node.launcher.environments
    assert found["worker-a"] == {"CUDA_MPS_PIPE_DIRECTORY": "/run/mps"}
    assert found["worker-b"]["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"
    await node.close()


@pytest.mark.parametrize(
    ("said", "told"), [(0.25, 0.25), (None, None), (7.0, 1.0), (-1.0, 0.0), (1e300, 1.0)]
)
def test_what_a_worker_process_says_of_its_share_is_a_fraction(
    said: float | None, told: float | None
) -> None:
    load = WorkerLoad.of(StatsChanged(0, 0, 0, compute_share=said, compute_demand=said))

    assert (load.compute_share, load.compute_demand) == (told, told)
