"""Settings of the C library's allocator for a process that handles large bodies."""

import ctypes

_TRIM_THRESHOLD = -1  # their numbers in malloc.h
_MMAP_THRESHOLD = -3
_BYTES = 128 * 2**10


def return_large_blocks() -> None:
    """Blocks above 128 KiB go back to the system when they are freed.

    glibc begins so, but raises the limit to the size of whatever is freed, up to 32 MiB: after a
    few large prompts their memory stays with the process. Other libraries of C lack the call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _BYTES)
        mallopt(_TRIM_THRESHOLD, _BYTES)
