"""The CUDA driver by ctypes: loaded in milliseconds, long before torch. Stdlib only.

Foreign functions release the interpreter's lock, so threads in here do not hold up an import.
"""

import ctypes
from collections.abc import Callable
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint,
    c_uint64,
    c_void_p,
    create_string_buffer,
)
from typing import Any

from services.worker.errors import DriverError, DriverLacks

LIBRARY = "libcuda.so.1"
_VISIBLE_GPU = 0  # a worker process is shown one GPU only
_STREAM_NON_BLOCKING = 1
_EVENT_SLEEPING_WITHOUT_TIMES = 1 | 2
_HOST_PORTABLE = 1
_UUID_BYTES = 16

_SIGNATURES = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGetUuid_v2": (c_char_p, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxGetStreamPriorityRange": (POINTER(c_int), POINTER(c_int)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuStreamCreateWithPriority": (POINTER(c_void_p), c_uint, c_int),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class LibCuda:
    """The port `Driver` on the driver's own library."""

    def __init__(self, library: str = LIBRARY, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        """Raises DriverLacks when the library, or a function that is used here, is not there."""
        self._functions = _functions(library, load)
        self._context = c_void_p()

    def visible_uuids(self) -> tuple[str, ...]:
        self._call("cuInit", 0)
        count = c_int()
        self._call("cuDeviceGetCount", byref(count))
        return tuple(map(self._uuid, range(count.value)))

    def _uuid(self, ordinal: int) -> str:
        device, octets = c_int(), create_string_buffer(_UUID_BYTES)
        self._call("cuDeviceGet", byref(device), ordinal)
        self._call("cuDeviceGetUuid_v2", octets, device)
        return uuid_text(octets.raw)

    def open_context(self) -> None:
        self._call("cuInit", 0)
        device = c_int()
        self._call("cuDeviceGet", byref(device), _VISIBLE_GPU)
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device)
        self.enter()

    def enter(self) -> None:
        self._call("cuCtxSetCurrent", self._context)

    def allocate_device(self, num_bytes: int) -> int:
        pointer = c_uint64()
        self._call("cuMemAlloc_v2", byref(pointer), num_bytes)
        return pointer.value

    def allocate_host(self, num_bytes: int) -> int:
        pointer = c_void_p()
        self._call("cuMemHostAlloc", byref(pointer), num_bytes, _HOST_PORTABLE)
        return pointer.value or 0

    def create_stream(self, *, is_urgent: bool) -> int:
        least, greatest, stream = c_int(), c_int(), c_void_p()
        self._call("cuCtxGetStreamPriorityRange", byref(least), byref(greatest))
        priority = greatest if is_urgent else least
        self._call("cuStreamCreateWithPriority", byref(stream), _STREAM_NON_BLOCKING, priority)
        return stream.value or 0

    def create_event(self) -> int:
        event = c_void_p()
        self._call("cuEventCreate", byref(event), _EVENT_SLEEPING_WITHOUT_TIMES)
        return event.value or 0

    def copy_to_device(self, target: int, source: int, num_bytes: int, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync_v2", target, source, num_bytes, stream)

    def record(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def wait(self, event: int) -> None:
        self._call("cuEventSynchronize", event)

    def _call(self, name: str, *arguments: object) -> None:
        status = self._functions[name](*arguments)
        if status != 0:
            raise DriverError(
                name,
                self._text("cuGetErrorName", status, f"error {status}"),
                self._text("cuGetErrorString", status, "unknown to the driver"),
            )

    def _text(self, function: str, status: int, default: str) -> str:
        text = c_char_p()
        self._functions[function](status, byref(text))
        return default if text.value is None else text.value.decode(errors="replace")


def uuid_text(octets: bytes) -> str:
    """As NVIDIA's tools write it, without the kind before it."""
    digits = octets.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _functions(library: str, load: Callable[[str], Any]) -> "dict[str, ctypes._NamedFuncPointer]":
    try:
        cuda = load(library)
        functions = {name: getattr(cuda, name) for name in _SIGNATURES}
    except (OSError, AttributeError) as exc:
        raise DriverLacks(str(exc)) from exc
    for name, arguments in _SIGNATURES.items():
        functions[name].argtypes = arguments
        functions[name].restype = c_int
    return functions
