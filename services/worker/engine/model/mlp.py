"""The feed-forward branch of a layer, with a gate or without."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from libs.common.modelconfig.config import Activation, MlpConfig
from libs.common.modelconfig.parts import LayerTensors
from services.worker.engine.model.linear import Linear, load_linear
from services.worker.engine.model.weights import UnitReader

# All of them return a new tensor.
_FUNCTIONS: Mapping[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.SILU: F.silu,
    Activation.RELU: F.relu,
    Activation.GELU: F.gelu,
    Activation.GELU_TANH: partial(F.gelu, approximate="tanh"),
}


@dataclass(frozen=True)
class Mlp:
    expand: Linear  # [2 * size, hidden] with gate above up, or [size, hidden]
    contract: Linear  # [hidden, size]
    activation: Callable[[torch.Tensor], torch.Tensor]
    is_gated: bool

    def __call__(self, normed: torch.Tensor) -> torch.Tensor:
        """`[tokens, hidden]` in and, as a new tensor, out."""
        expanded = self.expand(normed)
        if not self.is_gated:
            return self.contract(self.activation(expanded))
        gate, up = expanded.chunk(2, -1)
        return self.contract(self.activation(gate).mul_(up))


def load_mlp(reader: UnitReader, tensors: LayerTensors, config: MlpConfig) -> Mlp:
    """Raises TensorError."""
    return Mlp(
        expand=load_linear(reader, *tensors.expand),
        contract=load_linear(reader, tensors.contract),
        activation=_FUNCTIONS[config.activation],
        is_gated=config.is_gated,
    )
