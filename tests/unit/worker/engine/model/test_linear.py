"""Kernels differ in the order of their sums; nothing else of an exact product may be lost."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from services.worker.engine.model.linear import Linear, linear
from services.worker.engine.model.packing import PIECE_BYTES, Packer

IN, OUT = 576, 300
SUREST = 6.0  # an error beyond its bound has probability 2·exp(-SUREST² / 2), 3e-8


@dataclass(frozen=True)
class Problem:
    inputs: torch.Tensor  # [rows, IN]
    weight: torch.Tensor  # [OUT, IN]
    bias: torch.Tensor | None = None  # [OUT]

    @classmethod
    def random(
        cls, dtype: torch.dtype, num_rows: int, *, has_bias: bool = False, num_out: int = OUT
    ) -> "Problem":
        torch.manual_seed(3)
        inputs, weight = torch.randn(num_rows, IN), torch.randn(num_out, IN)
        bias = torch.randn(num_out).to(dtype) if has_bias else None
        return cls(inputs.to(dtype), weight.to(dtype), bias)

    def worst(self, product: torch.Tensor) -> float:
        """The largest error of any element, as a share of what it is allowed.

        Terms are summed in fp32 whatever the type: an error of SUREST·sqrt(n)·u of their absolute
        sum, with the unit roundoff u = eps / 2 (Higham and Mary, A New Approach to Probabilistic
        Rounding Error Analysis, 2019, theorem 3.1). Then a narrower type rounds to the nearest,
        once.
        """
        exact = self._sum_of(lambda tensor: tensor)
        allowed = SUREST * (IN + 1) ** 0.5 * _unit_roundoff(torch.float32) * self._sum_of(torch.abs)
        if product.dtype is not torch.float32:
            allowed += _unit_roundoff(product.dtype) * (exact.abs() + allowed)
        share: float = ((product.double() - exact).abs() / allowed).max().item()
        return share

    def _sum_of(self, part: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        bias = None if self.bias is None else part(self.bias.double())
        return F.linear(part(self.inputs.double()), part(self.weight.double()), bias)


def _unit_roundoff(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("num_rows", [1, 2, 5, 40])
@pytest.mark.parametrize("has_bias", [False, True])
def test_every_kernel_is_as_exact_as_its_types_allow(
    dtype: torch.dtype, num_rows: int, has_bias: bool
) -> None:
    problem = Problem.random(dtype, num_rows, has_bias=has_bias)

    product = linear(problem.inputs, problem.weight, problem.bias)

    assert product.shape == (num_rows, OUT)
    assert product.dtype is dtype
    assert problem.worst(product) <= 1


@pytest.mark.parametrize("num_rows", [1, 2, 5, 40])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("num_out", [OUT, PIECE_BYTES // (2 * IN) + 77], ids=["one", "pieces"])
def test_a_packed_matrix_is_as_exact(num_rows: int, has_bias: bool, num_out: int) -> None:
    problem = Problem.random(torch.bfloat16, num_rows, has_bias=has_bias, num_out=num_out)
    matrix = Linear(problem.weight, problem.bias)
    packer = Packer([matrix], budget_bytes=2**30)
    while packer.pack_next():
        continue
    assert matrix.packed is not None

    product = matrix(problem.inputs)

    assert product.shape == (num_rows, num_out)
    assert problem.worst(product) <= 1


def rounded_halfway(problem: Problem) -> torch.Tensor:
    """Two halves, each rounded before they are added."""
    halves = zip(problem.inputs.chunk(2, 1), problem.weight.chunk(2, 1), strict=True)
    left, right = (F.linear(inputs, weight) for inputs, weight in halves)
    return left + right


def cut_off(problem: Problem) -> torch.Tensor:
    """Rounded towards zero."""
    bits = F.linear(problem.inputs.float(), problem.weight.float()).view(torch.int32)
    return (bits & ~0xFFFF).view(torch.float32).to(problem.inputs.dtype)


def of_short_inputs(problem: Problem) -> torch.Tensor:
    """Inputs of ten bits, as TF32 has them."""
    bits = problem.inputs.view(torch.int32) & ~0x1FFF
    return F.linear(bits.view(torch.float32), problem.weight)


@pytest.mark.parametrize(
    ("dtype", "kernel"),
    [
        (torch.bfloat16, rounded_halfway),
        (torch.bfloat16, cut_off),
        (torch.float32, cut_off),
        (torch.float32, of_short_inputs),
    ],
)
def test_a_kernel_that_loses_more_is_found_out(
    dtype: torch.dtype, kernel: Callable[[Problem], torch.Tensor]
) -> None:
    problem = Problem.random(dtype, 5)

    assert problem.worst(kernel(problem)) > 1.5
