"""What a worker process's errors become, and that people read what the error says."""

import pytest
import torch

from libs.common.cause_words import words
from libs.common.causes import CauseKind, Fault
from services.worker.engine.errors import ConfigError
from services.worker.errors import (
    DeviceCopyFailed,
    DriverError,
    FrameError,
    ReservationTooSmall,
    WeightsNotDelivered,
    WeightsUnavailable,
)
from services.worker.runtime.dataplane.errors import (
    BindError,
    DataPlaneError,
    LinkTimedOut,
    NeighbourLost,
    SendTimedOut,
    WireError,
)
from services.worker.runtime.failure_causes import cause_of


@pytest.mark.parametrize(
    ("error", "kind", "fault"),
    [
        (NeighbourLost(1, 2, "its connection ended"), CauseKind.NEIGHBOUR_LOST, Fault.NETWORK),
        (SendTimedOut(2.5), CauseKind.NEIGHBOUR_STALLED, Fault.NETWORK),
        (LinkTimedOut(1, 9.0), CauseKind.NEIGHBOUR_MISSING, Fault.NETWORK),
        (BindError("no data port on ::1"), CauseKind.DATA_PORT_REFUSED, Fault.NODE),
        (WeightsNotDelivered("no such object"), CauseKind.WEIGHTS_UNAVAILABLE, Fault.STORE),
        (DeviceCopyFailed("cuMemAlloc: …"), CauseKind.DEVICE_FAILED, Fault.NODE),
        (ReservationTooSmall(5, 7), CauseKind.RESERVATION_TOO_SMALL, Fault.BUG),
        (DriverError("cuInit", "CUDA_ERROR", "no"), CauseKind.DEVICE_FAILED, Fault.NODE),
        (WeightsUnavailable("the model has no unit x"), CauseKind.ENGINE_FAILED, Fault.MODEL),
        (ConfigError("rope", "unknown"), CauseKind.ENGINE_FAILED, Fault.MODEL),
        (DataPlaneError("neighbours do not change"), CauseKind.ENGINE_FAILED, Fault.MODEL),
    ],
    ids=lambda value: value.value if isinstance(value, CauseKind) else "",
)
def test_an_error_becomes_a_cause_that_says_the_same(
    error: Exception, kind: CauseKind, fault: Fault
) -> None:
    cause = cause_of(error)

    assert (cause.kind, cause.fault, words(cause)) == (kind, fault, str(error))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        pytest.param(214, CauseKind.DEVICE_FAILED, id="memory that cannot be corrected"),
        pytest.param(46, CauseKind.DEVICE_FAILED, id="the GPU is not available"),
        pytest.param(700, CauseKind.ENGINE_FAILED, id="an illegal address"),
        pytest.param(2, CauseKind.ENGINE_FAILED, id="out of memory"),
    ],
)
def test_a_broken_gpu_is_its_nodes_fault_and_a_broken_kernel_is_not(
    code: int, kind: CauseKind
) -> None:
    error = torch.AcceleratorError("CUDA error: something\nCompile with TORCH_USE_CUDA_DSA")
    error.error_code = code  # type: ignore[attr-defined]  # torch sets it, its types lack it

    assert cause_of(error).kind is kind


@pytest.mark.parametrize(
    ("error", "fault", "said"),
    [
        (FrameError("no JSON"), Fault.BUG, "the agent broke the protocol: no JSON"),
        (WireError("no hello"), Fault.BUG, "the neighbour broke the protocol: no hello"),
        (KeyError("x"), Fault.MODEL, "while reading: KeyError: 'x'"),
    ],
)
def test_what_broke_the_protocol_or_was_not_foreseen_is_put_into_our_words(
    error: Exception, fault: Fault, said: str
) -> None:
    cause = cause_of(error, "while reading: ")

    assert (cause.fault, words(cause)) == (fault, said)
