"""Which GPU is meant by what the settings say, on nodes whose GPUs are not here."""

import ctypes.util
import os
from collections.abc import Sequence

import pytest

from libs.common.bus.messages import DeviceObserved
from libs.common.gpu_uuid import bare_uuid, is_gpu_uuid
from services.worker.agent.devices.cuda_order import visible_uuids
from services.worker.agent.devices.device import Device
from services.worker.agent.devices.finding import find_devices
from services.worker.agent.devices.nvml import Nvml
from services.worker.agent.settings import parse_device
from services.worker.errors import DeviceError
from tests.support.fakenvml import GpuDouble, NvmlDouble

HAS_NO_DRIVER = ctypes.util.find_library("nvidia-ml") is None
GIB = 2**30


def uuid(kind: str, number: int) -> str:
    return f"{kind}-{number:08x}-0000-4000-8000-000000000000"


SMALL = GpuDouble(uuid("GPU", 1), 16 * GIB, knows_mig=False)
LARGE = GpuDouble(uuid("GPU", 2), 80 * GIB)
SLICES = (GpuDouble(uuid("MIG", 31), 10 * GIB), GpuDouble(uuid("MIG", 32), 20 * GIB))
DIVIDED = GpuDouble(uuid("GPU", 3), 80 * GIB, SLICES)
# As the bus has them, which is how the management library counts; CUDA puts the fastest first.
NODE = (SMALL, LARGE, DIVIDED)
IN_CUDAS_ORDER = tuple(bare_uuid(gpu.uuid) for gpu in (LARGE, SLICES[0], SMALL))


def find(*entries: str, gpus: tuple[GpuDouble, ...] = NODE) -> tuple[Device, ...]:
    configured = tuple(parse_device(index, entry) for index, entry in enumerate(entries))
    return find_devices(configured, Nvml(NvmlDouble(*gpus)), lambda: IN_CUDAS_ORDER)


def unasked() -> Sequence[str]:
    pytest.fail("CUDA counts nothing that has a name")


@pytest.mark.parametrize(
    ("entry", "gpu"),
    [
        pytest.param("cuda:0", LARGE, id="a number is CUDA's, not the management library's"),
        pytest.param("cuda:2", SMALL, id="the slow one comes last"),
        pytest.param("cuda:1", SLICES[0], id="CUDA shows an instance"),
        pytest.param(f"cuda:{LARGE.uuid}", LARGE, id="a UUID"),
        pytest.param(f"cuda:{SLICES[1].uuid}", SLICES[1], id="an instance is a device"),
    ],
)
def test_a_device_is_known_by_its_uuid_and_has_that_gpus_memory(entry: str, gpu: GpuDouble) -> None:
    (device,) = find(entry)
    assert (device.uuid, device.memory_bytes) == (gpu.uuid, gpu.memory_bytes)
    assert device.torch_name == "cuda:0"  # its worker is shown no other


def test_a_uuid_needs_no_counting() -> None:
    configured = (parse_device(0, f"cuda:{LARGE.uuid}"),)
    (device,) = find_devices(configured, Nvml(NvmlDouble(*NODE)), unasked)
    assert device.uuid == LARGE.uuid


def test_a_node_without_gpus_asks_no_driver() -> None:
    nvml = NvmlDouble(failing={"nvmlInit": 12})
    (device,) = find_devices((parse_device(0, "cpu:1Gi:3"),), Nvml(nvml), unasked)
    assert device.observed == DeviceObserved(index=0, kind="cpu", memory_bytes=GIB, cores=3)


def test_what_the_settings_say_is_what_the_scheduler_is_told() -> None:
    devices = find("cpu:1Gi:3", "cuda:0:40Gi:2")
    assert tuple(device.observed for device in devices) == (
        DeviceObserved(index=0, kind="cpu", memory_bytes=GIB, cores=3),
        DeviceObserved(index=1, kind="cuda", memory_bytes=40 * GIB, cores=2),
    )


def test_devices_share_the_machines_cores_equally_unless_told() -> None:
    num_cores = len(os.sched_getaffinity(0))
    devices = find(*(["cuda:0:16Mi"] * 1000))
    assert {device.cores for device in devices} == {max(1, num_cores // 1000)}


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        pytest.param(["cuda:3"], "CUDA shows 3 GPUs", id="no such number"),
        pytest.param([f"cuda:{uuid('GPU', 9)}"], f"are: {SMALL.uuid}, ", id="no such UUID"),
        pytest.param([f"cuda:{DIVIDED.uuid}"], f"{SLICES[0].uuid}, {SLICES[1].uuid}", id="divided"),
        pytest.param(["cuda:0:81Gi"], "lower their sizes", id="more than it has"),
        pytest.param(["cuda:0", f"cuda:{LARGE.uuid}"], "lower their sizes", id="given twice"),
    ],
)
def test_what_is_not_there_ends_the_start_and_says_what_is(entries: list[str], said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        find(*entries)


@pytest.mark.parametrize(
    ("text", "is_uuid"),
    [
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", True),
        ("MIG-8932f937-d72c-4106-c12f-20bd9faed9f6", True),
        ("GPU-8932f937", False),  # CUDA takes a beginning; it may become another's
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0", False),  # of drivers before 470
        ("8932f937-d72c-4106-c12f-20bd9faed9f6", False),
    ],
)
def test_a_uuid_is_whole(text: str, is_uuid: bool) -> None:
    assert is_gpu_uuid(text) is is_uuid


@pytest.mark.skipif(not HAS_NO_DRIVER, reason="this machine has a GPU driver")
def test_without_a_driver_the_start_ends_and_says_what_is_missing() -> None:
    with pytest.raises(DeviceError, match=r"CUDA does not say .* libcuda\.so\.1.*driver installed"):
        find_devices((parse_device(0, "cuda:0"),))
    with pytest.raises(DeviceError, match=r"NVML Shared Library Not Found.*driver installed"):
        find_devices((parse_device(0, f"cuda:{LARGE.uuid}"),))


@pytest.mark.gpu
def test_a_number_and_its_uuid_are_one_gpu() -> None:
    (by_number,) = find_devices((parse_device(0, "cuda:0"),))
    (by_uuid,) = find_devices((parse_device(0, f"cuda:{by_number.uuid}"),))
    assert by_number == by_uuid and by_number.memory_bytes > GIB
    assert bare_uuid(by_number.uuid or "") == visible_uuids()[0]
