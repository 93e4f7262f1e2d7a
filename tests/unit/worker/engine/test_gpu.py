"""Which GPU computes which model, by values alone."""

import pytest
import torch

from services.worker.engine.gpu import Gpu, why_unsuitable

CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
WITH_PTX = ("sm_75", "sm_80", "compute_80")


def gpu(major: int, minor: int, *architectures: str) -> Gpu:
    return Gpu("Tesla X", (major, minor), architectures)


@pytest.mark.parametrize(
    ("subject", "dtype"),
    [
        pytest.param(gpu(9, 0, *CUDA_13), torch.bfloat16, id="H100"),
        pytest.param(gpu(8, 9, *CUDA_13), torch.bfloat16, id="L4: binaries of 8.6 run on 8.9"),
        pytest.param(gpu(7, 5, *CUDA_13), torch.float16, id="T4 in float16"),
        pytest.param(gpu(7, 5, *CUDA_13), torch.float32, id="T4 in float32"),
        pytest.param(gpu(9, 0, *WITH_PTX), torch.bfloat16, id="PTX runs on anything newer"),
        pytest.param(gpu(9, 0), torch.bfloat16, id="nobody knows what torch was built for"),
    ],
)
def test_a_gpu_that_can_compute_a_model(subject: Gpu, dtype: torch.dtype) -> None:
    assert why_unsuitable(subject, dtype) is None


@pytest.mark.parametrize(
    ("subject", "dtype", "why", "next_step"),
    [
        (gpu(7, 5, *CUDA_13), torch.bfloat16, "7.5", "float16 checkpoint"),
        (gpu(7, 0, "sm_70", "sm_80"), torch.bfloat16, "7.0", "float16 checkpoint"),
        (gpu(7, 0, *CUDA_13), torch.float16, "no kernels", "install a build of torch"),
        (gpu(8, 0, "sm_86", "sm_90"), torch.float16, "no kernels", "install a build of torch"),
        (gpu(9, 0, "sm_80", "sm_90a"), torch.float16, "no kernels", "install a build of torch"),
    ],
)
def test_a_model_that_a_gpu_cannot_compute_is_refused_with_the_next_step(
    subject: Gpu, dtype: torch.dtype, why: str, next_step: str
) -> None:
    reason = why_unsuitable(subject, dtype)
    assert reason is not None and "Tesla X" in reason and why in reason and next_step in reason
