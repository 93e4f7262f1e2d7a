"""Copies host memory to a GPU through page-locked buffers, for one copying thread.

Bytes of unit files are pageable: copies straight from there would hold back every kernel of the
process. So they go through the buffers, which are filled in turn while earlier ones are copied. The
buffers stay until the process ends: to give them back would wait for the device, just when it
computes the first tokens.
"""

import ctypes
from collections.abc import Callable

from services.worker.runtime.cuda.driver import Driver

NUM_BUFFERS = 2
BUFFER_BYTES = 4 * 2**20  # page-locking costs 0.6 ms per MiB; larger ones copy no faster


class _Buffer:
    def __init__(self, driver: Driver, size_bytes: int) -> None:
        self.pointer = driver.allocate_host(size_bytes)
        self.copied = driver.create_event()
        self.done: Callable[[], None] | None = None  # of the copy that reads it


class Staging:
    """For one thread, which has entered the context."""

    def __init__(
        self, driver: Driver, *, is_urgent: bool, buffer_bytes: int = BUFFER_BYTES
    ) -> None:
        """Raises DriverError."""
        self._driver = driver
        self._stream = driver.create_stream(is_urgent=is_urgent)
        self._buffers = [_Buffer(driver, buffer_bytes) for _ in range(NUM_BUFFERS)]  # oldest first

    def copy(self, source: int, target: int, num_bytes: int, done: Callable[[], None]) -> None:
        """Begin a copy of host bytes, which are free again on return.

        `done` is called by a later `copy` or `finish` once they are on the device.
        """
        buffer = self._buffers.pop(0)
        self._buffers.append(buffer)
        self._finish(buffer)
        ctypes.memmove(buffer.pointer, source, num_bytes)
        self._driver.copy_to_device(target, buffer.pointer, num_bytes, self._stream)
        self._driver.record(buffer.copied, self._stream)
        buffer.done = done

    def finish(self) -> None:
        """Until every copy that was begun is on the device."""
        for buffer in self._buffers:
            self._finish(buffer)

    def _finish(self, buffer: _Buffer) -> None:
        if (done := buffer.done) is not None:
            self._driver.wait(buffer.copied)
            buffer.done = None
            done()
