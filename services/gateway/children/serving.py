"""The child's end: limits that the kernel enforces, and frames over stdin and stdout.

Imported by the scripts that run as child processes, never by the service.
"""

import ctypes
import resource
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_TRIM_BYTES = 2**20


def limit_process(max_memory_bytes: int) -> None:
    """And if the machine's memory runs out all the same, this process goes before its parent."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))


def serve(handle: Callable[[bytes], bytes], cpu_s: Callable[[int], int]) -> None:
    """Until stdin ends. `cpu_s` is how much CPU time a request of so many bytes may take."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (request := _read_frame(source)) is not None:
        _limit_cpu(cpu_s(len(request)))
        reply = handle(request)
        sink.write(struct.pack(">I", len(reply)))
        sink.write(reply)
        sink.flush()
        if len(request) + len(reply) > _TRIM_BYTES:
            del request, reply
            _give_memory_back()


def _read_frame(source: BinaryIO) -> bytes | None:
    header = source.read(4)
    if len(header) < 4:
        return None
    (length,) = struct.unpack(">I", header)
    return source.read(length)


def _limit_cpu(cpu_s: int) -> None:
    """The kernel counts the process's whole CPU time, in seconds, and kills at the soft limit."""
    soft = int(time.process_time()) + 1 + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _give_memory_back() -> None:
    """glibc keeps what was freed in small pieces; other libraries of C lack the call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
