"""Pages of shared memory made before they are written: mapped, and there, without a fault each.

Making a page costs the kernel more than filling it, and a fault per page as much again.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_MADV_POPULATE_WRITE = 23  # Linux 5.14
_STEP_BYTES = 4 * 2**20
_libc = ctypes.CDLL(None, use_errno=True)


class NotWanted(Exception):
    """The memory is not wanted any more."""


class SharedPages:
    """A new file of memory that is there, mapped for writing. It holds one descriptor."""

    def __init__(
        self, path: Path, size_bytes: int, is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Leaves nothing when it raises OSError, with ENOSPC when shared memory is full, or
        NotWanted, when it was no longer wanted before all of it was there."""
        self.path, self.size_bytes = path, size_bytes
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            _allocate(descriptor, size_bytes, is_wanted)
            self.mapping = mmap.mmap(descriptor, size_bytes)
        except BaseException:
            self.discard()
            raise
        finally:
            os.close(descriptor)

    def make(self, is_wanted: Callable[[], bool]) -> None:
        """Map every page, in steps for as long as it is wanted. Older kernels map at the write."""
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.mapping))
        for offset, length in _steps(self.size_bytes):
            if not is_wanted() or not _populate(start + offset, length):
                return

    def cut(self, size_bytes: int) -> None:
        """Give back what is behind the first `size_bytes`; nobody may touch it from here on."""
        os.truncate(self.path, size_bytes)

    def discard(self) -> None:
        """Remove the file; the memory goes with the last use of the mapping."""
        self.path.unlink(missing_ok=True)


def _steps(size_bytes: int) -> Iterator[tuple[int, int]]:
    """Offset and length of each."""
    for offset in range(0, size_bytes, _STEP_BYTES):
        yield offset, min(_STEP_BYTES, size_bytes - offset)


def _allocate(descriptor: int, size_bytes: int, is_wanted: Callable[[], bool]) -> None:
    for offset, length in _steps(size_bytes):
        if not is_wanted():
            raise NotWanted
        os.posix_fallocate(descriptor, offset, length)


def _populate(address: int, length: int) -> bool:
    """Other threads run meanwhile, which they do not during `mmap.madvise`."""
    arguments = (ctypes.c_void_p(address), ctypes.c_size_t(length), _MADV_POPULATE_WRITE)
    if _libc.madvise(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EINVAL:
        return False
    raise OSError(code, os.strerror(code))
