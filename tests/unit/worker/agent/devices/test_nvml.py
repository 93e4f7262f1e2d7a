"""What the management library is asked, by the double of its module."""

import asyncio
import logging
from collections.abc import Mapping

import pynvml
import pytest

from services.worker.agent.devices.device import Device
from services.worker.agent.devices.finding import find_devices
from services.worker.agent.devices.monitor import measure_regularly
from services.worker.agent.devices.nvml import FoundGpu, Nvml
from services.worker.agent.settings import parse_device
from services.worker.errors import DeviceError
from tests.support.devices import gpu
from tests.support.fakenvml import GpuDouble, NvmlDouble

GIB = 2**30
GPU, INSTANCE = gpu().uuid or "", "MIG-8932f937-d72c-4106-c12f-20bd9faed9f7"


def test_a_session_is_closed_whatever_happens_in_it() -> None:
    api = NvmlDouble(failing={"nvmlDeviceGetHandleByUUID": pynvml.NVML_ERROR_GPU_IS_LOST})
    with pytest.raises(DeviceError, match="GPU is lost"):
        Nvml(api).find(GPU)
    assert api.num_open == 0


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("nvmlInit", pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded"),
        ("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "Library Not Found"),
        ("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_NO_PERMISSION, "Insufficient Permissions"),
    ],
)
def test_an_error_names_the_gpu_and_has_the_librarys_words(
    function: str, code: int, said: str
) -> None:
    with pytest.raises(DeviceError, match=f"{GPU} .*{said}"):
        Nvml(NvmlDouble(GpuDouble(GPU, GIB), failing={function: code})).find(GPU)


def test_a_gpu_that_knows_no_instances_is_undivided() -> None:
    nvml = Nvml(NvmlDouble(GpuDouble(GPU, GIB, knows_mig=False)))
    assert nvml.find(GPU) == FoundGpu(GPU, GIB)
    assert nvml.uuids() == (GPU,)


@pytest.mark.parametrize(
    ("knows_reserved", "memory_bytes"),
    [
        pytest.param(True, 23 * GIB, id="the driver tells what it keeps"),
        pytest.param(False, 24 * GIB, id="drivers before 510 do not"),
    ],
)
def test_what_the_driver_keeps_is_nobodys_memory(knows_reserved: bool, memory_bytes: int) -> None:
    double = GpuDouble(GPU, 24 * GIB, reserved_bytes=GIB, knows_reserved=knows_reserved)
    assert Nvml(NvmlDouble(double)).find(GPU) == FoundGpu(GPU, memory_bytes)


@pytest.mark.parametrize(
    ("capability", "has_bfloat16"),
    [((7, 0), False), ((7, 5), False), ((8, 0), True), ((12, 0), True)],
)
def test_only_newer_gpus_compute_bfloat16(capability: tuple[int, int], has_bfloat16: bool) -> None:
    nvml = Nvml(NvmlDouble(GpuDouble(GPU, GIB, capability=capability)))
    (device,) = find_devices((parse_device(0, f"cuda:{GPU}"),), nvml)
    assert device.observed.has_bfloat16 is has_bfloat16


def test_processes_without_a_figure_are_left_out() -> None:
    api = NvmlDouble(GpuDouble(GPU, GIB, process_bytes={7: 2**20, 8: None}))
    assert Nvml(api).process_bytes(GPU) == {7: 2**20}


async def test_processes_are_those_of_the_devices_own_instance_until_the_driver_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    instance = GpuDouble(INSTANCE, GIB, process_bytes={7: 2**20})
    api = NvmlDouble(GpuDouble(GPU, 8 * GIB, (instance,), process_bytes={7: 1, 9: 2}))
    told: list[tuple[int, Mapping[int, int]]] = []

    def note(index: int, used: Mapping[int, int]) -> None:
        told.append((index, used))
        api._failing = {"nvmlInit": pynvml.NVML_ERROR_UNKNOWN}

    device: Device = gpu(3, INSTANCE)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(10):
            await measure_regularly(device, note, Nvml(api), interval_s=0)

    assert told == [(3, {7: 2**20})]
    assert "is not measured" in caplog.text


@pytest.mark.gpu
def test_a_gpu_says_what_processes_take_of_it() -> None:
    (device,) = find_devices((parse_device(0, "cuda:0"),))
    used_bytes = Nvml().process_bytes(device.uuid or "")
    assert all(0 < used < device.memory_bytes for used in used_bytes.values())
