"""Errors of the worker service.

WorkerError
├── FrameError           bytes on the socketpair that are no frame of ours
├── LaunchError          a worker process could not be started; `cause` is for people
├── DeviceError          a device that the settings name is not there or cannot be asked
└── WeightsUnavailable   the weights did not become readable before the deadline, or never will
"""

from libs.common.errors import HydraError


class WorkerError(HydraError):
    pass


class FrameError(WorkerError):
    pass


class LaunchError(WorkerError):
    pass


class DeviceError(WorkerError):
    pass


class WeightsUnavailable(WorkerError):
    pass
