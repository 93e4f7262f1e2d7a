"""The parameter manager: from units in shared memory to tensors on the compute device.

On CPU a tensor is a view of the mapping, without a copy; the mapping is read-only, so a stray
write to a weight ends the process instead of changing the weight for everybody. On CUDA each unit
is one allocation, filled while its bytes arrive.
"""

import time
import warnings
from dataclasses import dataclass
from typing import Protocol

import torch

from libs.common.errors import UnitFileError
from libs.common.manifest import TensorEntry, UnitEntry
from libs.common.unitfile import UnitReader
from services.worker.engine.weights import UnitKey
from services.worker.errors import WeightsUnavailable
from services.worker.unitfeed import UnitFeed

COPY_BYTES = 64 * 2**20  # of one host-to-device copy: large enough for full rate

DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
}


class Placement(Protocol):
    """Where a unit's bytes live for the engine."""

    @property
    def is_copy(self) -> bool:
        """Whether the unit's file is of no use any more once `place` has returned."""

    def place(self, reader: UnitReader, deadline_s: float) -> torch.Tensor:
        """The whole unit as `[size]` uint8 on the compute device, complete when this returns.

        Raises UnitFileError when the bytes do not arrive by `deadline_s` on time.monotonic().
        """


class HostPlacement:
    """The shared memory itself."""

    is_copy = False

    def place(self, reader: UnitReader, deadline_s: float) -> torch.Tensor:
        reader.wait_complete(deadline_s)
        return host_bytes(reader)


@dataclass(frozen=True)
class DevicePlacement:
    """A copy on a CUDA device, from pageable memory."""

    device: torch.device

    @property
    def is_copy(self) -> bool:
        return True

    def place(self, reader: UnitReader, deadline_s: float) -> torch.Tensor:
        unit_host = host_bytes(reader)
        unit_device = torch.empty(reader.size_bytes, dtype=torch.uint8, device=self.device)
        for start in range(0, reader.size_bytes, COPY_BYTES):
            end = min(start + COPY_BYTES, reader.size_bytes)
            reader.wait_prefix(end, deadline_s)
            unit_device[start:end].copy_(unit_host[start:end])
        return unit_device


def placement_for(device: torch.device) -> Placement:
    return HostPlacement() if device.type == "cpu" else DevicePlacement(device)


def host_bytes(reader: UnitReader) -> torch.Tensor:
    """`[size]` uint8 over the mapping, which lives as long as any tensor made of it."""
    with warnings.catch_warnings():
        # Read-only is what we want here; torch has no such notion and warns.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(reader.data, dtype=torch.uint8)


class ParameterManager:
    """The engine's WeightSource; for one thread."""

    def __init__(self, feed: UnitFeed, placement: Placement) -> None:
        self._feed, self._placement = feed, placement
        self._placed: dict[UnitKey, _PlacedUnit] = {}

    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        """Return when every tensor of the unit is on the device. Raises WeightsUnavailable."""
        if unit in self._placed:
            return
        deadline_s = time.monotonic() + timeout_s
        entry = self._entry(unit)
        reader = self._feed.mapped(entry, timeout_s)
        try:
            data = self._placement.place(reader, deadline_s)
        except UnitFileError as exc:
            raise WeightsUnavailable(str(exc)) from exc
        self._placed[unit] = _PlacedUnit(data, {tensor.name: tensor for tensor in entry.tensors})
        if self._placement.is_copy:
            self._feed.release(entry)

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        """A view of a placed unit. Raises KeyError."""
        placed = self._placed[unit]
        return _view(placed.data, placed.tensors[name])

    def _entry(self, unit: UnitKey) -> UnitEntry:
        try:
            return self._feed.unit(unit.kind, unit.layer_index)
        except KeyError as exc:
            raise WeightsUnavailable(f"the model has no unit {exc}") from exc


@dataclass(frozen=True)
class _PlacedUnit:
    data: torch.Tensor  # [size] uint8, on the compute device
    tensors: dict[str, TensorEntry]  # by name


def _view(data: torch.Tensor, entry: TensorEntry) -> torch.Tensor:
    """One tensor of a unit, sharing the unit's storage. Raises WeightsUnavailable."""
    dtype = DTYPES.get(entry.dtype)
    if dtype is None:
        raise WeightsUnavailable(f"tensor {entry.name} is {entry.dtype}, which is not supported")
    return data[entry.offset : entry.end].view(dtype).view(entry.shape)
