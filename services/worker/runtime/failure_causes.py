"""What an error in a worker process says of its cause. The one place where errors become causes."""

from libs.common.causes import Cause, CauseKind
from services.worker.errors import (
    DeviceCopyFailed,
    DeviceError,
    DriverError,
    DriverLacks,
    FrameError,
    ReservationTooSmall,
    WeightsNotDelivered,
    WorkerError,
)
from services.worker.runtime.dataplane.errors import (
    BindError,
    LinkTimedOut,
    NeighbourLost,
    SendTimedOut,
    WireError,
)

# CUDA's codes that no kernel and no model is to blame for: cudaErrorDevicesUnavailable, NoDevice,
# InvalidDevice, ECCUncorrectable, NvlinkUncorrectable, SystemNotReady, SystemDriverMismatch,
# CompatNotSupportedOnDevice. The others, such as an illegal address, may be ours.
_DEVICE_CODES = frozenset({46, 100, 101, 214, 220, 802, 803, 804})


def cause_of(error: BaseException, doing: str = "") -> Cause:
    """`doing` goes before what an error says that is none of the worker's own."""
    match error:
        case NeighbourLost():
            facts = {"own_stage": error.own_stage, "stage": error.stage}
            return Cause.of(CauseKind.NEIGHBOUR_LOST, **facts, detail=error.how)
        case SendTimedOut():
            return Cause.of(CauseKind.NEIGHBOUR_STALLED, seconds=error.timeout_s)
        case LinkTimedOut():
            seconds = error.timeout_s
            return Cause.of(CauseKind.NEIGHBOUR_MISSING, own_stage=error.stage, seconds=seconds)
        case BindError():
            return Cause.of(CauseKind.DATA_PORT_REFUSED, detail=str(error))
        case WireError():
            return Cause.of(CauseKind.PROTOCOL_BROKEN, by="neighbour", detail=str(error))
        case FrameError():
            return Cause.of(CauseKind.PROTOCOL_BROKEN, by="agent", detail=str(error))
        case WeightsNotDelivered():
            return Cause.of(CauseKind.WEIGHTS_UNAVAILABLE, detail=error.detail)
        case DeviceCopyFailed() | DeviceError() | DriverError() | DriverLacks():
            return Cause.of(CauseKind.DEVICE_FAILED, detail=str(error))
        case ReservationTooSmall():
            facts = {"reserved_bytes": error.reserved_bytes, "needed_bytes": error.needed_bytes}
            return Cause.of(CauseKind.RESERVATION_TOO_SMALL, **facts)
        case WorkerError():
            return Cause.of(CauseKind.ENGINE_FAILED, detail=str(error))
        case _ if _is_of_the_device(error):
            return Cause.of(CauseKind.DEVICE_FAILED, detail=str(error).splitlines()[0])
    said = f"{doing}{type(error).__name__}: {error}"
    return Cause.of(CauseKind.ENGINE_FAILED, detail=said)


def _is_of_the_device(error: BaseException) -> bool:
    """Known by its name: whoever fails before torch is imported does not import it for that."""
    code = getattr(error, "error_code", None)
    return type(error).__name__ == "AcceleratorError" and code in _DEVICE_CODES
