"""What the node's devices hold, asked once at start. No torch here: the agent stays light."""

import ctypes
import os

from libs.common.bus.messages import DeviceObserved
from services.worker.agent.settings import DeviceKind, DeviceSettings
from services.worker.errors import DeviceError


def observe(devices: tuple[DeviceSettings, ...]) -> tuple[DeviceObserved, ...]:
    """The devices with everything filled in. Raises DeviceError when a GPU cannot be asked."""
    share = max(1, len(os.sched_getaffinity(0)) // len(devices))
    return tuple(
        DeviceObserved(
            index=device.index,
            kind="cpu" if device.kind is DeviceKind.CPU else "cuda",
            memory_bytes=_memory_bytes(device),
            cores=device.cores or share,
        )
        for device in devices
    )


def _memory_bytes(device: DeviceSettings) -> int:
    if device.memory_bytes is not None:
        return device.memory_bytes
    assert device.ordinal is not None
    return gpu_memory_bytes(device.ordinal)


class _NvmlMemory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def gpu_memory_bytes(ordinal: int) -> int:
    """Total memory of a GPU by the driver's library, which needs no CUDA context.

    Raises DeviceError when there is no driver or no such GPU.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as exc:
        raise DeviceError(f"GPU {ordinal} cannot be asked for its memory: {exc}") from exc
    _check(nvml.nvmlInit_v2(), ordinal)
    try:
        handle, memory = ctypes.c_void_p(), _NvmlMemory()
        _check(nvml.nvmlDeviceGetHandleByIndex_v2(ordinal, ctypes.byref(handle)), ordinal)
        _check(nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)), ordinal)
    finally:
        nvml.nvmlShutdown()
    return int(memory.total)


def _check(status: int, ordinal: int) -> None:
    if status != 0:
        raise DeviceError(f"GPU {ordinal} cannot be asked for its memory: NVML error {status}")
