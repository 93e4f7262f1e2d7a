"""Errors of the worker service.

WorkerError
├── FrameError           bytes on the socketpair that are no frame of ours
├── LaunchError          a worker process could not be started; `cause` is for people
├── StandbyLost          a standby process has ended; another start is needed
│   └── StandbySilent    it, or the zygote that is to fork it, does not answer
├── CgroupUnavailable    this process may make no cgroups here; says why
├── DeviceError          a device that the settings name is not there or cannot be asked
│   └── DeviceUnsuitable     it cannot compute what it shall
├── DriverError          the CUDA driver refused a call; `call` and `name` are its own words
├── DriverLacks          there is no CUDA driver here, or it lacks a function
├── ReservationTooSmall  what the plan reserved of a GPU does not suffice for its own parts
├── RequestRefused       a request that an engine can never serve; `reason` is for people
└── WeightsUnavailable   the weights did not become readable before the deadline, or never will
    ├── WeightsNotDelivered  their fetcher does not bring them, and says itself why; `detail`
    └── DeviceCopyFailed     they did not reach the device
"""

from libs.common.errors import HydraError


class WorkerError(HydraError):
    pass


class FrameError(WorkerError):
    pass


class LaunchError(WorkerError):
    pass


class StandbyLost(WorkerError):
    pass


class StandbySilent(StandbyLost):
    pass


class CgroupUnavailable(WorkerError):
    pass


class DeviceError(WorkerError):
    pass


class DeviceUnsuitable(DeviceError):
    pass


class DriverError(WorkerError):
    def __init__(self, call: str, name: str, meaning: str) -> None:
        super().__init__(f"{call}: {name} ({meaning})")
        self.call, self.name = call, name


class DriverLacks(WorkerError):
    pass


class ReservationTooSmall(WorkerError):
    def __init__(self, reserved_bytes: int, needed_bytes: int) -> None:
        super().__init__(
            f"{reserved_bytes} bytes of the GPU were reserved for it, which is too little: "
            f"weights, KV cache and the driver's context take {needed_bytes}"
        )
        self.reserved_bytes, self.needed_bytes = reserved_bytes, needed_bytes


class RequestRefused(WorkerError):
    def __init__(self, request_id: str, reason: str) -> None:
        super().__init__(f"request {request_id}: {reason}")
        self.request_id = request_id
        self.reason = reason


class WeightsUnavailable(WorkerError):
    pass


class WeightsNotDelivered(WeightsUnavailable):
    def __init__(self, detail: str) -> None:
        super().__init__(f"the weights cannot be had: {detail}")
        self.detail = detail


class DeviceCopyFailed(WeightsUnavailable):
    def __init__(self, detail: str) -> None:
        super().__init__(f"the weights did not reach the GPU: {detail}")
