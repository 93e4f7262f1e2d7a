"""What the node's devices hold and what processes take of them. No torch: the agent stays light."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


class _NvmlProcess(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


MAX_PROCESSES = 256  # on one GPU; with more nobody is told
_NOT_AVAILABLE = 2**64 - 1  # what the driver says of a process that it does not account for


def gpu_memory_bytes(ordinal: int) -> int:
    """Total memory of a GPU by the driver's library, which needs no CUDA context.

    Raises DeviceError when there is no driver or no such GPU.
    """
    memory = _NvmlMemory()
    with _gpu(ordinal) as gpu:
        _check(gpu.nvml.nvmlDeviceGetMemoryInfo(gpu.handle, ctypes.byref(memory)), ordinal)
    return int(memory.total)


def gpu_process_bytes(ordinal: int) -> dict[int, int]:
    """What processes take of a GPU, by process id; without those that the driver tells nothing of.

    In a container the driver may number processes as its host does: then they are nobody's here.
    Raises DeviceError. Blocks for some milliseconds.
    """
    count, processes = ctypes.c_uint(MAX_PROCESSES), (_NvmlProcess * MAX_PROCESSES)()
    with _gpu(ordinal) as gpu:
        ask = getattr(gpu.nvml, "nvmlDeviceGetComputeRunningProcesses_v3", None)
        if ask is None:
            raise DeviceError(f"GPU {ordinal} cannot be asked for its processes: an old driver")
        _check(ask(gpu.handle, ctypes.byref(count), processes), ordinal)
    found = processes[: count.value]
    return {item.pid: int(item.used) for item in found if item.used != _NOT_AVAILABLE}


@dataclass(frozen=True)
class _Gpu:
    nvml: ctypes.CDLL
    handle: ctypes.c_void_p


@contextmanager
def _gpu(ordinal: int) -> Iterator[_Gpu]:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as exc:
        raise DeviceError(f"GPU {ordinal} cannot be asked for its memory: {exc}") from exc
    _check(nvml.nvmlInit_v2(), ordinal)
    try:
        handle = ctypes.c_void_p()
        _check(nvml.nvmlDeviceGetHandleByIndex_v2(ordinal, ctypes.byref(handle)), ordinal)
        yield _Gpu(nvml, handle)
    finally:
        nvml.nvmlShutdown()


def _check(status: int, ordinal: int) -> None:
    if status != 0:
        raise DeviceError(f"GPU {ordinal} cannot be asked for its memory: NVML error {status}")
