"""What a node's workers are told of its compute, by device and by setting."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.bus.messages import WorkerSpec
from services.worker.agent.devices.device import Device
from services.worker.agent.settings import DeviceKind
from services.worker.agent.shares.cpu_shares import CpuShare
from services.worker.agent.shares.node_compute import NodeCompute
from tests.support.devices import GPU_UUID, gpu
from tests.unit.worker.values import worker_spec

PIPES = Path("/run/mps")
CPU = Device(0, DeviceKind.CPU, None, 1000, cores=4)
# Two devices of the settings that are parts of one GPU, and another GPU.
GPUS = (gpu(0), gpu(1), gpu(2, uuid=GPU_UUID.replace("8932", "1111")))
PERCENTAGE = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"


@dataclass
class Worker:
    spec: WorkerSpec
    pid: int | None = 7
    is_starting: bool = False
    is_finished: bool = False


@dataclass
class Recorded:
    shares: list[CpuShare] = field(default_factory=list)

    def apply(self, shares: Sequence[CpuShare]) -> None:
        self.shares = list(shares)


def test_an_engine_may_use_all_cores_of_its_device_and_with_caps_its_own_only() -> None:
    spec = worker_spec(cores=1)

    assert NodeCompute((CPU,)).max_threads(spec) == 4
    assert NodeCompute((CPU,), are_caps=True).max_threads(spec) == 1


def test_the_running_workers_get_shares() -> None:
    cpu = Recorded()
    workers = [
        Worker(worker_spec("worker-a", device_bytes=750), pid=11),
        Worker(worker_spec("worker-b", device_bytes=250), pid=12),
        Worker(worker_spec("worker-launching", device_bytes=100), pid=None),
        Worker(worker_spec("worker-ended", device_bytes=900), pid=13, is_finished=True),
    ]

    NodeCompute((CPU,), cpu).apply(workers)

    assert cpu.shares == [
        CpuShare("worker-a", 11, weight=0.75, cap_cores=3.0),
        CpuShare("worker-b", 12, weight=0.25, cap_cores=1.0),
    ]


def test_a_worker_has_a_ceiling_on_a_gpu_that_another_one_uses_and_on_no_other() -> None:
    compute = NodeCompute(GPUS, mps_pipes=PIPES)
    spec = worker_spec("worker-a", device_index=0, device_bytes=300)
    elsewhere = Worker(worker_spec("worker-b", device_index=2, device_bytes=100))
    beside = Worker(worker_spec("worker-c", device_index=1, device_bytes=100))
    ended = Worker(worker_spec("worker-d", device_index=1, device_bytes=900), is_finished=True)

    alone = compute.environment(spec, [elsewhere, ended])
    shared = compute.environment(spec, [elsewhere, ended, beside])

    assert alone == {"CUDA_MPS_PIPE_DIRECTORY": "/run/mps"}
    assert shared == {"CUDA_MPS_PIPE_DIRECTORY": "/run/mps", PERCENTAGE: "75"}


def test_without_the_service_or_without_a_gpu_nothing_is_said() -> None:
    spec, beside = worker_spec("worker-a"), Worker(worker_spec("worker-b"))

    assert NodeCompute(GPUS).environment(spec, [beside]) == {}
    assert NodeCompute((CPU,), mps_pipes=PIPES).environment(spec, [beside]) == {}


def test_with_caps_a_lone_worker_has_its_part_of_the_gpu() -> None:
    compute = NodeCompute(GPUS, are_caps=True, mps_pipes=PIPES)
    spec = worker_spec("worker-a", device_bytes=2**28)  # of 2**30

    assert compute.environment(spec, [])[PERCENTAGE] == "25"
