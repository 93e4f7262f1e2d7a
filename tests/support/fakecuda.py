"""A CUDA driver without a GPU: the same port, device memory on the host, copies when waited for.

A copy happens as late as the driver allows: when an event after it is waited for. So whoever takes
bytes for arrived without waiting finds none. What a real driver leaves undefined is refused here:
pageable sources, sources that change under a copy, calls from threads without the context.
"""

import ctypes
import itertools
import threading
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from libs.common.gpu_uuid import bare_uuid
from services.worker.errors import DriverError
from tests.support.devices import GPU_UUID

FUNCTIONS: Final = {
    "visible_uuids": "cuDeviceGetUuid_v2",
    "open_context": "cuDevicePrimaryCtxRetain",
    "enter": "cuCtxSetCurrent",
    "allocate_device": "cuMemAlloc_v2",
    "allocate_host": "cuMemHostAlloc",
    "create_stream": "cuStreamCreateWithPriority",
    "create_event": "cuEventCreate",
    "copy_to_device": "cuMemcpyHtoDAsync_v2",
    "record": "cuEventRecord",
    "wait": "cuEventSynchronize",
}
ERROR_NAME: Final = "CUDA_ERROR_UNKNOWN"


@dataclass(frozen=True)
class _Copy:
    target: int
    source: int
    num_bytes: int
    checksum: int


@dataclass
class _Stream:
    is_urgent: bool
    work: deque["_Copy | int"] = field(default_factory=deque)  # copies, and events to reach


class FakeDriver:
    """`failing`: the method that fails, on its call number `failing_call`, counted from 1."""

    def __init__(
        self,
        failing: str | None = None,
        failing_call: int = 1,
        uuids: tuple[str, ...] = (bare_uuid(GPU_UUID),),
    ) -> None:
        self._failing, self._failing_call = failing, failing_call
        self._uuids = uuids
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._entered = threading.local()
        self._blocks: dict[int, ctypes.Array[ctypes.c_ubyte]] = {}  # by address, all memory
        self._host: set[int] = set()  # addresses of page-locked blocks
        self._streams: dict[int, _Stream] = {}
        self._pending: dict[int, int | None] = {}  # event → its stream while it is not reached
        self.num_calls: dict[str, int] = dict.fromkeys(FUNCTIONS, 0)
        self.violations: list[str] = []
        self.priorities: list[bool] = []  # of each stream made: whether urgent
        self.copy_sizes: list[int] = []

    # ------------------------------------------------------------------ the port

    def visible_uuids(self) -> tuple[str, ...]:
        self._begin("visible_uuids", needs_context=False)
        return self._uuids

    def open_context(self) -> None:
        self._begin("open_context", needs_context=False)
        self._entered.yes = True

    def enter(self) -> None:
        self._begin("enter", needs_context=False)
        if not self.num_calls["open_context"]:
            self._violate("a context is entered that was not made")
        self._entered.yes = True

    def allocate_device(self, num_bytes: int) -> int:
        self._begin("allocate_device")
        return self._allocate(num_bytes)

    def allocate_host(self, num_bytes: int) -> int:
        self._begin("allocate_host")
        pointer = self._allocate(num_bytes)
        self._host.add(pointer)
        return pointer

    def create_stream(self, *, is_urgent: bool) -> int:
        self._begin("create_stream")
        number = next(self._numbers)
        self._streams[number] = _Stream(is_urgent)
        self.priorities.append(is_urgent)
        return number

    def create_event(self) -> int:
        self._begin("create_event")
        number = next(self._numbers)
        self._pending[number] = None
        return number

    def copy_to_device(self, target: int, source: int, num_bytes: int, stream: int) -> None:
        self._begin("copy_to_device")
        with self._lock:
            if not self._is_inside(source, num_bytes, self._host):
                self._violate("the source of a copy is not page-locked")
            if not self._is_inside(target, num_bytes, self._blocks.keys() - self._host):
                self._violate("the target of a copy is not device memory")
            checksum = zlib.crc32(ctypes.string_at(source, num_bytes))
            self._streams[stream].work.append(_Copy(target, source, num_bytes, checksum))
            self.copy_sizes.append(num_bytes)

    def record(self, event: int, stream: int) -> None:
        self._begin("record")
        with self._lock:
            if self._pending[event] is not None:
                self._violate("an event is recorded again before it was reached")
            self._pending[event] = stream
            self._streams[stream].work.append(event)

    def wait(self, event: int) -> None:
        self._begin("wait")
        with self._lock:
            stream = self._pending[event]
            while stream is not None and self._pending[event] is not None:
                self._do(self._streams[stream].work.popleft())

    # ----------------------------------------------------------------- for tests

    @property
    def num_pending(self) -> int:
        """Copies and events that were begun and not waited for."""
        with self._lock:
            return sum(len(stream.work) for stream in self._streams.values())

    def bytes_at(self, pointer: int, num_bytes: int) -> bytes:
        with self._lock:
            return ctypes.string_at(pointer, num_bytes)

    # ------------------------------------------------------------------- its own

    def _begin(self, method: str, *, needs_context: bool = True) -> None:
        with self._lock:
            self.num_calls[method] += 1
            is_failing = method == self._failing and self.num_calls[method] == self._failing_call
        if needs_context and not getattr(self._entered, "yes", False):
            self._violate(f"{method} in a thread without the context")
        if is_failing:
            raise DriverError(FUNCTIONS[method], ERROR_NAME, "unknown error")

    def _allocate(self, num_bytes: int) -> int:
        block = (ctypes.c_ubyte * num_bytes)()
        pointer = ctypes.addressof(block)
        self._blocks[pointer] = block
        return pointer

    def _is_inside(self, pointer: int, num_bytes: int, blocks: "set[int]") -> bool:
        return any(
            start <= pointer and pointer + num_bytes <= start + len(self._blocks[start])
            for start in blocks
        )

    def _do(self, work: "_Copy | int") -> None:
        if isinstance(work, int):
            self._pending[work] = None
            return
        if zlib.crc32(ctypes.string_at(work.source, work.num_bytes)) != work.checksum:
            self._violate("the source of a copy changed under it")
        ctypes.memmove(work.target, work.source, work.num_bytes)

    def _violate(self, what: str) -> None:
        self.violations.append(what)
