"""Finds the devices that the settings name; from here on a GPU's name is its UUID."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from libs.common.gpu_uuid import is_gpu_uuid
from services.worker.agent.devices.cuda_order import visible_uuids
from services.worker.agent.devices.device import Device
from services.worker.agent.devices.nvml import FoundGpu, Nvml
from services.worker.agent.settings import DeviceSettings
from services.worker.errors import DeviceError

ListVisible = Callable[[], Sequence[str]]


def find_devices(
    configured: Sequence[DeviceSettings],
    nvml: Nvml | None = None,
    list_visible: ListVisible = visible_uuids,
) -> tuple[Device, ...]:
    """With everything filled in. Raises DeviceError for a GPU that is not there, is divided into
    MIG instances, or has less memory than its devices are given."""
    nvml, visible = nvml or Nvml(), cache(list_visible)
    cores = max(1, len(os.sched_getaffinity(0)) // len(configured))
    gpus = [None if d.gpu is None else _find(d.gpu, nvml, visible) for d in configured]
    devices = tuple(
        _device(device, gpu, cores) for device, gpu in zip(configured, gpus, strict=True)
    )
    _check_memory(devices, {gpu.uuid: gpu for gpu in gpus if gpu is not None}.values())
    return devices


def _device(device: DeviceSettings, gpu: FoundGpu | None, cores: int) -> Device:
    memory_bytes = device.memory_bytes
    if memory_bytes is None:
        assert gpu is not None, "a CPU's memory is always given"
        memory_bytes = gpu.memory_bytes
    return Device(
        index=device.index,
        kind=device.kind,
        uuid=None if gpu is None else gpu.uuid,
        memory_bytes=memory_bytes,
        cores=device.cores or cores,
        has_bfloat16=gpu is None or gpu.has_bfloat16,
    )


def _find(name: str, nvml: Nvml, visible: ListVisible) -> FoundGpu:
    uuids = (name,) if is_gpu_uuid(name) else _names_of(int(name), visible())
    found = next((gpu for uuid in uuids if (gpu := nvml.find(uuid)) is not None), None)
    if found is None:
        here = ", ".join(nvml.uuids()) or "none"
        raise DeviceError(f"cuda:{name} is not a GPU of this node, whose GPUs are: {here}")
    if found.instances:
        raise DeviceError(
            f"cuda:{name} is divided into MIG instances, of which a worker computes on one: name "
            f"them in HYDRA_DEVICES ({', '.join(found.instances)})"
        )
    return found


def _names_of(ordinal: int, visible: Sequence[str]) -> tuple[str, str]:
    """Both that a UUID may have: CUDA does not say whether it is an instance's."""
    if ordinal >= len(visible):
        raise DeviceError(
            f"cuda:{ordinal} is not there: CUDA shows {len(visible)} GPUs, counted from 0 (see "
            "CUDA_VISIBLE_DEVICES, or name GPUs by their UUIDs)"
        )
    return f"GPU-{visible[ordinal]}", f"MIG-{visible[ordinal]}"


def _check_memory(devices: Iterable[Device], gpus: Iterable[FoundGpu]) -> None:
    given: defaultdict[str | None, int] = defaultdict(int)
    for device in devices:
        given[device.uuid] += device.memory_bytes
    for gpu in gpus:
        if given[gpu.uuid] > gpu.memory_bytes:
            raise DeviceError(
                f"{gpu.uuid} has {gpu.memory_bytes} bytes of memory, its devices are given "
                f"{given[gpu.uuid]}: lower their sizes in HYDRA_DEVICES"
            )
