"""NVIDIA's management library, asked by UUID alone. It needs no CUDA context.

Everything raises DeviceError and blocks for some milliseconds. A node without GPUs loads nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from libs.common.engines import BFLOAT16_CAPABILITY
from services.worker.errors import DeviceError

DRIVER_HINT: Final = "is NVIDIA's driver installed, and does this container have it?"


@dataclass(frozen=True)
class FoundGpu:
    uuid: str
    memory_bytes: int
    instances: tuple[str, ...] = ()  # UUIDs of its MIG instances, if it is divided into them
    has_bfloat16: bool = True


class Nvml:
    """`api` is the module pynvml, or what stands in for it in tests."""

    def __init__(self, api: Any = None) -> None:
        self._given_api = api

    @property
    def _api(self) -> Any:
        if self._given_api is None:
            import pynvml

            self._given_api = pynvml
        return self._given_api

    def find(self, uuid: str) -> FoundGpu | None:
        """None when there is no such GPU or instance here."""
        with self._session(f"{uuid} cannot be asked for its memory"):
            try:
                handle = self._api.nvmlDeviceGetHandleByUUID(uuid)
            except (self._api.NVMLError_NotFound, self._api.NVMLError_InvalidArgument):
                return None
            memory_bytes = self._memory_bytes(handle)
            if uuid.startswith("MIG-"):  # only newer GPUs are divided
                return FoundGpu(uuid, memory_bytes)
            capability = tuple(self._api.nvmlDeviceGetCudaComputeCapability(handle))
            instances = tuple(self._instances(handle))
            return FoundGpu(uuid, memory_bytes, instances, capability >= BFLOAT16_CAPABILITY)

    def uuids(self) -> tuple[str, ...]:
        """Of all that a worker may be given: undivided GPUs, and MIG instances."""
        with self._session("the GPUs of this node cannot be listed"):
            found: list[str] = []
            for index in range(self._api.nvmlDeviceGetCount()):
                handle = self._api.nvmlDeviceGetHandleByIndex(index)
                instances = list(self._instances(handle))
                found += instances or [self._api.nvmlDeviceGetUUID(handle)]
            return tuple(found)

    def process_bytes(self, uuid: str) -> dict[int, int]:
        """What processes take of it, by process id; without those that the driver says nothing of.

        In a container the driver may number processes as its host does: they are nobody's here.
        """
        with self._session(f"{uuid} cannot be asked for its processes"):
            handle = self._api.nvmlDeviceGetHandleByUUID(uuid)
            processes = self._api.nvmlDeviceGetComputeRunningProcesses(handle)
            return {
                int(process.pid): int(process.usedGpuMemory)
                for process in processes
                if process.usedGpuMemory is not None
            }

    def _memory_bytes(self, handle: object) -> int:
        """Without what driver and firmware keep, some hundred MiB that no process can have."""
        api = self._api
        try:
            memory = api.nvmlDeviceGetMemoryInfo(handle, version=api.nvmlMemory_v2)
        except (api.NVMLError_FunctionNotFound, api.NVMLError_NotSupported):
            return int(api.nvmlDeviceGetMemoryInfo(handle).total)
        return int(memory.total) - int(memory.reserved)

    def _instances(self, handle: object) -> Iterator[str]:
        """Of a GPU in MIG mode; of others none."""
        try:
            is_divided, _ = self._api.nvmlDeviceGetMigMode(handle)
        except self._api.NVMLError_NotSupported:
            return
        if not is_divided:
            return
        for index in range(self._api.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                instance = self._api.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            except self._api.NVMLError_NotFound:
                continue  # so many there may be, not are
            yield self._api.nvmlDeviceGetUUID(instance)

    @contextmanager
    def _session(self, failing: str) -> Iterator[None]:
        try:
            self._api.nvmlInit()
            try:
                yield
            finally:
                self._api.nvmlShutdown()
        except self._api.NVMLError as exc:
            raise DeviceError(f"{failing}: NVML: {exc} ({DRIVER_HINT})") from exc
