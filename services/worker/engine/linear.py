"""The product of activations and a weight, by the fastest kernel that gives the same answer."""

import torch
import torch.nn.functional as F


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
