"""Where a unit's bytes live for the engine, and how they come there.

On CPU a tensor is a view of the mapping, without a copy; the mapping is read-only, so a stray
write to a weight ends the process instead of changing the weight for everybody. On CUDA all units
lie in one allocation, which threads fill while the bytes arrive; where the driver lacks something
or gives no page-locked memory, torch copies them.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from libs.common.errors import UnitFileError
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitfile import UnitReader
from services.worker.errors import WeightsNotDelivered
from services.worker.runtime.unit_mapper import UnitMapper

if TYPE_CHECKING:  # a CPU loads no driver
    from services.worker.runtime.cuda.loading import DeviceLoading, Slab

COPY_BYTES = 64 * 2**20  # of one copy by torch: large enough for full rate


class Placement(Protocol):
    def place(self, unit: UnitEntry, deadline_s: float) -> torch.Tensor:
        """The whole unit as `[size]` uint8 on the compute device, complete when this returns.

        Raises WeightsUnavailable when that is not so by `deadline_s` on time.monotonic().
        """


@dataclass(frozen=True)
class HostPlacement:
    """The shared memory itself."""

    mapper: UnitMapper

    def place(self, unit: UnitEntry, deadline_s: float) -> torch.Tensor:
        reader = self.mapper.mapped(unit, deadline_s - time.monotonic())
        _wait_prefix(reader, unit.size_bytes, deadline_s)
        return host_bytes(reader)


@dataclass(frozen=True)
class DevicePlacement:
    """Copies that torch makes of pageable memory, one allocation for each unit."""

    mapper: UnitMapper
    device: torch.device

    def place(self, unit: UnitEntry, deadline_s: float) -> torch.Tensor:
        reader = self.mapper.mapped(unit, deadline_s - time.monotonic())
        unit_host = host_bytes(reader)
        unit_device = torch.empty(unit.size_bytes, dtype=torch.uint8, device=self.device)
        for start in range(0, unit.size_bytes, COPY_BYTES):
            end = min(start + COPY_BYTES, unit.size_bytes)
            _wait_prefix(reader, end, deadline_s)
            unit_device[start:end].copy_(unit_host[start:end])
        self.mapper.release(unit)
        return unit_device


class SlabPlacement:
    """The allocation that `loading` fills."""

    def __init__(
        self,
        loading: "DeviceLoading",
        slab: "Slab",
        view: Callable[[int, int], torch.Tensor] | None = None,
    ) -> None:
        """`view` makes a tensor of device bytes at (pointer, size), on a GPU if it is not given."""
        self._loading = loading
        self._offsets, self.size_bytes = slab.layout.offsets, slab.layout.size_bytes
        self._bytes = (view or gpu_bytes)(slab.pointer, slab.layout.size_bytes)

    def place(self, unit: UnitEntry, deadline_s: float) -> torch.Tensor:
        self._loading.wait(unit, deadline_s)
        return self.bytes_of(unit)

    def bytes_of(self, unit: UnitEntry) -> torch.Tensor:
        """`[size]` uint8, whatever is there by now."""
        return self._bytes[self._offsets[unit.digest] :][: unit.size_bytes]


@dataclass(frozen=True)
class UnfilledPlacement:
    """A slab as it is, for those whom its content does not concern; nobody waits for anything."""

    slab: SlabPlacement

    def place(self, unit: UnitEntry, deadline_s: float) -> torch.Tensor:
        return self.slab.bytes_of(unit)


def host_bytes(reader: UnitReader) -> torch.Tensor:
    """`[size]` uint8 over the mapping, which lives as long as any tensor made of it."""
    with warnings.catch_warnings():
        # Read-only is what we want here; torch has no such notion and warns.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(reader.data, dtype=torch.uint8)


def gpu_bytes(pointer: int, num_bytes: int) -> torch.Tensor:
    """`[num_bytes]` uint8 over memory of the GPU, without a copy; the memory is never freed."""
    return torch.as_tensor(_CudaArray(pointer, num_bytes), device="cuda")


class _CudaArray:
    """What torch takes device memory of another owner from."""

    def __init__(self, pointer: int, num_bytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (num_bytes,),
            "typestr": "|u1",
            "data": (pointer, False),
            "strides": None,
            "stream": None,  # whoever fills it says when it is there
            "version": 3,
        }


def _wait_prefix(reader: UnitReader, num_bytes: int, deadline_s: float) -> None:
    try:
        reader.wait_prefix(num_bytes, deadline_s)
    except UnitFileError as exc:
        raise WeightsNotDelivered(str(exc)) from exc
