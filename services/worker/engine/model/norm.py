"""Norms. Every rounding step is where transformers has it: in 16-bit types the order matters."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from libs.common.modelconfig.config import NormConfig, NormKind
from libs.common.modelconfig.parts import NormTensors
from services.worker.engine.model.weights import UnitReader

# [..., size] to the same shape, a new tensor
Norm = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class RmsNorm:
    """Normalised in float32, rounded, then scaled."""

    weight: torch.Tensor  # [size], or [heads, size] for heads that are normalised one by one
    eps: float

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(hidden, self.weight.shape[-1:], None, self.eps).mul_(self.weight)


@dataclass(frozen=True)
class RmsNormAroundOne:
    """Normalised and scaled by 1 + weight in float32, then rounded."""

    scale: torch.Tensor  # [size] float32: 1 + weight
    eps: float

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = torch.rms_norm(hidden.float(), self.scale.shape, None, self.eps)
        return normed.mul_(self.scale).to(hidden.dtype)


@dataclass(frozen=True)
class LayerNorm:
    weight: torch.Tensor  # [size]
    bias: torch.Tensor | None  # [size]
    eps: float

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.eps)


def load_norm(reader: UnitReader, tensors: NormTensors, config: NormConfig) -> Norm:
    """Raises TensorError."""
    weight = reader.weight(tensors.weight)
    match config.kind:
        case NormKind.RMS:
            return RmsNorm(weight, config.eps)
        case NormKind.RMS_AROUND_ONE:
            return RmsNormAroundOne(1 + weight.float(), config.eps)
        case NormKind.LAYER:
            return LayerNorm(weight, reader.optional(tensors.bias), config.eps)


def load_optional_norm(
    reader: UnitReader, tensors: NormTensors | None, config: NormConfig
) -> Norm | None:
    """Raises TensorError."""
    return None if tensors is None else load_norm(reader, tensors, config)
