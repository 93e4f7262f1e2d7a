"""Devices of nodes, as if they had been found."""

from typing import Final

from services.worker.agent.devices.device import Device
from services.worker.agent.settings import DeviceKind

GPU_UUID: Final = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


def cpu(index: int = 0, memory_bytes: int = 64 * 2**20) -> Device:
    return Device(index, DeviceKind.CPU, None, memory_bytes, cores=1)


def gpu(index: int = 0, uuid: str = GPU_UUID, memory_bytes: int = 2**30) -> Device:
    return Device(index, DeviceKind.CUDA, uuid, memory_bytes, cores=1)
