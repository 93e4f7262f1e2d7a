import pytest
import torch

from services.worker.engine.linear import linear


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("num_rows", [1, 2, 5])
@pytest.mark.parametrize("has_bias", [False, True])
def test_every_kernel_is_as_exact_as_its_types_allow(
    dtype: torch.dtype, num_rows: int, has_bias: bool
) -> None:
    torch.manual_seed(3)
    inputs, weight = torch.randn(num_rows, 576, dtype=dtype), torch.randn(300, 576, dtype=dtype)
    bias = torch.randn(300, dtype=dtype) if has_bias else None

    product = linear(inputs, weight, bias)

    exact = inputs.double() @ weight.double().T
    exact += 0 if bias is None else bias.double()
    assert product.shape == (num_rows, 300)
    assert product.dtype is dtype
    # Products are summed in fp32 whatever the type, 576 of them: error n * eps of their absolute
    # sum (Higham, section 3.1); then the result is rounded to its own type.
    summed = inputs.double().abs() @ weight.double().abs().T
    allowed = 576 * torch.finfo(torch.float32).eps * summed + torch.finfo(dtype).eps * exact.abs()
    assert ((product.double() - exact).abs() <= allowed).all()
