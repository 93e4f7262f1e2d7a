import ctypes.util
import os

import pytest

from libs.common.bus.messages import DeviceObserved
from services.worker.agent.devices import gpu_memory_bytes, gpu_process_bytes, observe
from services.worker.agent.settings import parse_device
from services.worker.errors import DeviceError

HAS_NO_DRIVER = ctypes.util.find_library("nvidia-ml") is None


def test_what_the_settings_say_is_what_the_scheduler_is_told() -> None:
    devices = (parse_device(0, "cpu:1Gi:3"), parse_device(1, "cuda:0:40Gi:2"))
    assert observe(devices) == (
        DeviceObserved(index=0, kind="cpu", memory_bytes=2**30, cores=3),
        DeviceObserved(index=1, kind="cuda", memory_bytes=40 * 2**30, cores=2),
    )


def test_gpus_share_the_machine_equally_unless_told() -> None:
    devices = tuple(parse_device(i, f"cuda:{i}:1Gi") for i in range(1000))
    num_cores = len(os.sched_getaffinity(0))
    assert {device.cores for device in observe(devices)} == {max(1, num_cores // 1000)}


@pytest.mark.skipif(not HAS_NO_DRIVER, reason="this machine has a GPU driver")
def test_a_gpu_that_cannot_be_asked_is_named() -> None:
    with pytest.raises(DeviceError, match="GPU 0"):
        observe((parse_device(0, "cuda:0"),))


@pytest.mark.skipif(not HAS_NO_DRIVER, reason="this machine has a GPU driver")
def test_a_gpu_whose_processes_cannot_be_asked_for_is_named() -> None:
    with pytest.raises(DeviceError, match="GPU 0"):
        gpu_process_bytes(0)


@pytest.mark.gpu
def test_a_gpu_says_what_processes_take_of_it() -> None:
    assert all(0 < used < gpu_memory_bytes(0) for used in gpu_process_bytes(0).values())


@pytest.mark.gpu
def test_a_gpu_says_how_much_memory_it_has() -> None:
    assert gpu_memory_bytes(0) > 2**30
