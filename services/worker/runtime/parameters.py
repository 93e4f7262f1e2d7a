"""The parameter manager: the engine's weights as views of units on the compute device."""

import time
from dataclasses import dataclass

import torch

from libs.common.weights.manifest import TensorEntry, UnitEntry
from services.worker.engine.model.weights import UnitKey
from services.worker.errors import WeightsUnavailable
from services.worker.runtime.placement import Placement
from services.worker.runtime.unit_mapper import UnitMapper

DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
}


class ParameterManager:
    """The engine's WeightSource; for one thread."""

    def __init__(self, mapper: UnitMapper, placement: Placement) -> None:
        self._mapper, self._placement = mapper, placement
        self._placed: dict[UnitKey, _PlacedUnit] = {}

    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        """Return when every tensor of the unit is on the device. Raises WeightsUnavailable."""
        if unit in self._placed:
            return
        entry = self._entry(unit)
        data = self._placement.place(entry, time.monotonic() + timeout_s)
        self._placed[unit] = _PlacedUnit(data, {tensor.name: tensor for tensor in entry.tensors})

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        """A view of a placed unit. Raises KeyError."""
        placed = self._placed[unit]
        return _view(placed.data, placed.tensors[name])

    def _entry(self, unit: UnitKey) -> UnitEntry:
        try:
            return self._mapper.unit(unit.kind, unit.layer_index)
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
