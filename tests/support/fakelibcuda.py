"""libcuda.so.1 without a GPU: C functions with the prototypes of cuda.h, over the driver's double.

What Python hands over comes out of a real C call, so wrong types and wrong orders show.
"""

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

from services.worker.errors import DriverError
from tests.support.fakecuda import FakeDriver

NOT_INITIALIZED, INVALID_VALUE, UNKNOWN = 3, 1, 999
LEAST, GREATEST = 0, -5  # priorities: lower numbers go first
CONTEXT = 0xC0FFEE
_OUT_INT, _OUT_POINTER = POINTER(c_int), POINTER(c_void_p)
_NAMES = {
    NOT_INITIALIZED: b"CUDA_ERROR_NOT_INITIALIZED",
    INVALID_VALUE: b"CUDA_ERROR_INVALID_VALUE",
    UNKNOWN: b"CUDA_ERROR_UNKNOWN",
}


class LibCudaDouble:
    """Loaded instead of the library; its functions are attributes, as of a ctypes.CDLL."""

    def __init__(self, driver: FakeDriver) -> None:
        self._driver, self._is_initialised = driver, False
        self._texts: list[Any] = []  # C has pointers into them
        self.cuInit = self._exported(self._init, c_uint)
        self.cuDeviceGet = self._exported(self._device, _OUT_INT, c_int)
        self.cuDeviceGetCount = self._exported(self._count, _OUT_INT)
        self.cuDeviceGetUuid_v2 = self._exported(self._uuid, POINTER(c_char * 16), c_int)
        self.cuDevicePrimaryCtxRetain = self._exported(self._retain, _OUT_POINTER, c_int)
        self.cuCtxSetCurrent = self._exported(self._set_current, c_void_p)
        self.cuCtxGetStreamPriorityRange = self._exported(self._priorities, _OUT_INT, _OUT_INT)
        self.cuMemAlloc_v2 = self._exported(self._allocate, POINTER(c_uint64), c_size_t)
        self.cuMemHostAlloc = self._exported(self._host, _OUT_POINTER, c_size_t, c_uint)
        self.cuStreamCreateWithPriority = self._exported(self._stream, _OUT_POINTER, c_uint, c_int)
        self.cuEventCreate = self._exported(self._event, _OUT_POINTER, c_uint)
        self.cuEventRecord = self._exported(driver.record, c_void_p, c_void_p)
        self.cuEventSynchronize = self._exported(driver.wait, c_void_p)
        self.cuMemcpyHtoDAsync_v2 = self._exported(
            driver.copy_to_device, c_uint64, c_void_p, c_size_t, c_void_p
        )
        text = CFUNCTYPE(c_int, c_int, POINTER(c_char_p))
        self.cuGetErrorName = text(self._error_name)
        self.cuGetErrorString = text(self._error_name)

    def _exported(self, work: Callable[..., object], *prototype: Any) -> Any:
        def call(*arguments: Any) -> int:
            if work != self._init and not self._is_initialised:
                return NOT_INITIALIZED
            try:
                status = work(*arguments)
            except DriverError:
                return UNKNOWN
            return status if isinstance(status, int) else 0

        return CFUNCTYPE(c_int, *prototype)(call)

    def _init(self, flags: int) -> int:
        self._is_initialised = True
        return 0 if flags == 0 else INVALID_VALUE

    def _device(self, device: Any, ordinal: int) -> int:
        device[0] = ordinal
        return 0 if ordinal < len(self._driver.visible_uuids()) else INVALID_VALUE

    def _count(self, count: Any) -> None:
        count[0] = len(self._driver.visible_uuids())

    def _uuid(self, octets: Any, device: int) -> None:
        text = self._driver.visible_uuids()[device]
        ctypes.memmove(octets, bytes.fromhex(text.replace("-", "")), 16)

    def _retain(self, context: Any, device: int) -> None:
        self._driver.open_context()
        context[0] = CONTEXT

    def _set_current(self, context: int | None) -> int:
        self._driver.enter()
        return 0 if context == CONTEXT else INVALID_VALUE

    def _priorities(self, least: Any, greatest: Any) -> None:
        least[0], greatest[0] = LEAST, GREATEST

    def _allocate(self, pointer: Any, num_bytes: int) -> None:
        pointer[0] = self._driver.allocate_device(num_bytes)

    def _host(self, pointer: Any, num_bytes: int, flags: int) -> int:
        pointer[0] = self._driver.allocate_host(num_bytes)
        return 0 if flags == 1 else INVALID_VALUE  # PORTABLE: of every context

    def _stream(self, stream: Any, flags: int, priority: int) -> int:
        stream[0] = self._driver.create_stream(is_urgent=priority == GREATEST)
        is_valid = flags == 1 and priority in (LEAST, GREATEST)  # NON_BLOCKING
        return 0 if is_valid else INVALID_VALUE

    def _event(self, event: Any, flags: int) -> int:
        event[0] = self._driver.create_event()
        return 0 if flags == 1 | 2 else INVALID_VALUE  # BLOCKING_SYNC, DISABLE_TIMING

    def _error_name(self, status: int, text: Any) -> int:
        if status not in _NAMES:
            return INVALID_VALUE
        text[0] = _NAMES[status]
        return 0
