"""Where the engine gets its weights from, and how it asks for them.

The tensors are views of memory that other processes share and that the engine may only read: no
operation here or in the decoder writes to a weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch

from libs.common.modelconfig.parts import Weight
from libs.common.weights.manifest import UnitKind
from services.worker.engine.errors import TensorError


@dataclass(frozen=True)
class UnitKey:
    kind: UnitKind
    layer_index: int | None = None  # of LAYER units only, counted over the whole model


class WeightSource(Protocol):
    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        """Return when every tensor of the unit is readable.

        Raises WeightsUnavailable when that does not happen in time or never will.
        """

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        """A read-only tensor of a readable unit, on the compute device, by its checkpoint name.

        Tensors that are adjacent in the unit share one storage. Raises KeyError.
        """


class ArrivingWeights(WeightSource, Protocol):
    """Of units that come while others are in use."""

    def is_ready(self, unit: UnitKey) -> bool:
        """Whether `wait_unit` would return at once. Never waits, and costs little.

        Raises WeightsUnavailable when the unit will never be there.
        """


@dataclass(frozen=True)
class UnitReader:
    """The tensors of one readable unit, checked."""

    source: WeightSource
    unit: UnitKey
    dtype: torch.dtype

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        """Raises TensorError when it is missing or not of this shape and the model's dtype."""
        try:
            tensor = self.source.tensor(self.unit, name)
        except KeyError:
            raise TensorError(name, f"is not in the unit {self.unit}") from None
        if tensor.shape != shape:
            raise TensorError(name, f"has shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.dtype is not self.dtype:
            raise TensorError(name, f"is {tensor.dtype}, expected {self.dtype}")
        return tensor

    def weight(self, weight: Weight) -> torch.Tensor:
        """Raises TensorError."""
        return self.tensor(weight.name, *weight.shape)

    def optional(self, weight: Weight | None) -> torch.Tensor | None:
        """Raises TensorError where the model has it and the unit has not."""
        return None if weight is None else self.weight(weight)

    def stacked(self, weights: Sequence[Weight]) -> torch.Tensor:
        """Tensors that differ in their rows alone as one, without a copy if adjacent.

        Units are packed so that q, k, v and gate, up are adjacent. Biases and matrices whose size
        is no multiple of the packing's alignment are not; those are copied. Raises TensorError.
        """
        parts = [self.weight(weight) for weight in weights]
        columns = weights[0].shape[1:]
        if not _are_adjacent(parts):
            return torch.cat(parts)
        strides = [prod(columns[index:]) for index in range(len(columns) + 1)]
        return parts[0].as_strided((sum(weight.shape[0] for weight in weights), *columns), strides)


def _are_adjacent(parts: Sequence[torch.Tensor]) -> bool:
    """Whether the parts lie back to back in one storage, each in row order."""
    storage = parts[0].untyped_storage().data_ptr()
    end = parts[0].storage_offset()
    for part in parts:
        is_next = part.untyped_storage().data_ptr() == storage and part.storage_offset() == end
        if not (is_next and part.is_contiguous()):
            return False
        end += part.numel()
    return True
