"""The module pynvml over GPUs that are not here: its functions, its errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml


@dataclass(frozen=True)
class GpuDouble:
    uuid: str
    memory_bytes: int  # with what the driver keeps
    instances: tuple["GpuDouble", ...] = ()
    reserved_bytes: int = 0  # by the driver
    capability: tuple[int, int] = (9, 0)
    knows_mig: bool = True
    knows_reserved: bool = True
    process_bytes: Mapping[int, int | None] = field(default_factory=dict)


class NvmlDouble:
    """`failing` functions fail with that error. Handles are the GPUs themselves."""

    NVMLError = pynvml.NVMLError
    NVMLError_NotFound = pynvml.NVMLError_NotFound
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVMLError_InvalidArgument = pynvml.NVMLError_InvalidArgument
    NVMLError_FunctionNotFound = pynvml.NVMLError_FunctionNotFound
    nvmlMemory_v2 = pynvml.nvmlMemory_v2

    def __init__(self, *gpus: GpuDouble, failing: Mapping[str, int] | None = None) -> None:
        self._gpus, self._failing = gpus, failing or {}
        self.num_open = 0

    def nvmlInit(self) -> None:
        self._begin("nvmlInit")
        self.num_open += 1

    def nvmlShutdown(self) -> None:
        self.num_open -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._begin("nvmlDeviceGetCount")
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> GpuDouble:
        return self._gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> GpuDouble:
        self._begin("nvmlDeviceGetHandleByUUID")
        for gpu in self._gpus:
            for one in (gpu, *gpu.instances):
                if one.uuid == uuid:
                    return one
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUUID(self, gpu: GpuDouble) -> str:
        return gpu.uuid

    def nvmlDeviceGetMemoryInfo(
        self, gpu: GpuDouble, version: int | None = None
    ) -> SimpleNamespace:
        self._begin("nvmlDeviceGetMemoryInfo")
        if version is None:
            return SimpleNamespace(total=gpu.memory_bytes)
        if not gpu.knows_reserved:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return SimpleNamespace(total=gpu.memory_bytes, reserved=gpu.reserved_bytes)

    def nvmlDeviceGetCudaComputeCapability(self, gpu: GpuDouble) -> list[int]:
        return list(gpu.capability)

    def nvmlDeviceGetMigMode(self, gpu: GpuDouble) -> list[int]:
        if not gpu.knows_mig:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(bool(gpu.instances))] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: GpuDouble) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: GpuDouble, index: int) -> GpuDouble:
        if index >= len(gpu.instances):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return gpu.instances[index]

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: GpuDouble) -> list[SimpleNamespace]:
        self._begin("nvmlDeviceGetComputeRunningProcesses")
        found = gpu.process_bytes.items()
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in found]

    def _begin(self, function: str) -> None:
        assert function == "nvmlInit" or self.num_open, f"{function} outside a session"
        if function in self._failing:
            raise pynvml.NVMLError(self._failing[function])
