"""The product of activations and a weight, by the fastest kernel that gives the same answer."""

import torch
import torch.nn.functional as F

from libs.common.modelconfig.parts import LinearTensors
from services.worker.engine.model.packing import PackedMatrix
from services.worker.engine.model.weights import UnitReader


class Linear:
    """`[rows, in]` to `[rows, out]`, a new tensor."""

    __slots__ = ("bias", "packed", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight = weight  # [out, in]
        self.bias = bias  # [out]
        self.packed: PackedMatrix | None = None  # the same product, faster

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.packed is not None:
            return self.packed(inputs)
        return linear(inputs, self.weight, self.bias)


def load_linear(reader: UnitReader, *parts: LinearTensors) -> Linear:
    """One matrix of the parts' rows, without a copy where they are adjacent. Raises TensorError."""
    first = parts[0]
    if len(parts) == 1:
        return Linear(reader.weight(first.weight), reader.optional(first.bias))
    weight = reader.stacked([part.weight for part in parts])
    biases = [part.bias for part in parts if part.bias is not None]
    return Linear(weight, reader.stacked(biases) if biases else None)


def linear(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """`[rows, in]` times `[out, in]` to `[rows, out]`, plus `[out]` where there is a bias.

    A single bfloat16 row on a CPU is a matrix-vector product: its kernel reads the weight at the
    memory's speed, the matrix kernel at two thirds of it. Other types have no faster one.
    """
    if inputs.shape[0] == 1 and _has_fast_vector_kernel(inputs):
        row = inputs[0]
        product = torch.mv(weight, row) if bias is None else torch.addmv(bias, weight, row)
        return product.unsqueeze(0)
    return F.linear(inputs, weight, bias)


def _has_fast_vector_kernel(inputs: torch.Tensor) -> bool:
    return inputs.dtype is torch.bfloat16 and inputs.device.type == "cpu"
