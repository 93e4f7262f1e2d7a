"""How the engine computes on a GPU, decided by values of GPUs that are not here."""

import logging
from collections.abc import Iterator

import pytest
import torch

from libs.common.causes import CauseKind, Fault
from libs.common.modelconfig.config import AttentionConfig
from services.worker.engine.gpu import Gpu
from services.worker.errors import DeviceUnsuitable
from services.worker.runtime.cuda.kernels import ANY_DEVICE, kernels_on
from services.worker.runtime.failure_causes import cause_of

CPU = torch.device("cpu")
T4, V100 = Gpu("Tesla T4", (7, 5), ("sm_75", "sm_80")), Gpu("Tesla V100", (7, 0), ("sm_75",))
CONFIG = AttentionConfig(8, 2, 64, score_scale=0.125, windows=(None,), rope=None)


def is_cudnn_enabled() -> bool:
    return bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]  # of torch


@pytest.fixture(autouse=True)
def cudnn_as_before() -> Iterator[None]:
    before = is_cudnn_enabled()
    yield
    torch.backends.cuda.enable_cudnn_sdp(before)


def test_a_gpu_before_ampere_computes_float16_chunk_by_chunk_and_without_graphs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert kernels_on(CPU, CONFIG, torch.float16, T4) == ANY_DEVICE
    assert "Tesla T4" in caplog.text and "step by step" in caplog.text


@pytest.mark.parametrize(
    ("gpu", "dtype", "said"),
    [
        pytest.param(T4, torch.bfloat16, "bfloat16", id="no bfloat16"),
        pytest.param(V100, torch.float16, "no kernels", id="torch was not built for it"),
        pytest.param(
            *(None, torch.float16, "without CUDA"),
            id="torch was built without CUDA",
            marks=pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA"),
        ),
    ],
)
def test_what_cannot_be_computed_ends_the_start_by_the_nodes_fault(
    gpu: Gpu | None, dtype: torch.dtype, said: str
) -> None:
    with pytest.raises(DeviceUnsuitable, match=said) as caught:
        kernels_on(CPU, CONFIG, dtype, gpu)
    cause = cause_of(caught.value)
    assert (cause.kind, cause.fault) == (CauseKind.DEVICE_FAILED, Fault.NODE)


def test_plans_of_cudnn_for_every_length_are_avoided() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    kernels_on(CPU, CONFIG, torch.float16, T4)
    assert not is_cudnn_enabled()
