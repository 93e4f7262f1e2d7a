"""Stops one thread of another process, which goes on otherwise: what a call that never returns does
to it. SIGSTOP would stop all of them."""

import ctypes
import errno
import os
import threading
from typing import Self

import pytest

_ATTACH, _WAIT_ALL = 16, 0x40000000  # PTRACE_ATTACH, __WALL


class FrozenThread:
    """From `with` on, until the process ends. Skips the test where tracing is forbidden."""

    def __init__(self, thread_id: int) -> None:
        self._thread_id = thread_id
        self._error = 0
        self._stopped = threading.Event()
        # The tracer is a thread: it has to be the one that attached, and to outlive the tracee.
        self._tracer = threading.Thread(target=self._trace, name="tracer", daemon=True)

    def __enter__(self) -> Self:
        self._tracer.start()
        assert self._stopped.wait(10), "the thread did not stop"
        if self._error == errno.EPERM:
            pytest.skip("this machine forbids tracing (ptrace), which stops a single thread")
        if self._error:
            raise OSError(self._error, f"{os.strerror(self._error)} (ptrace)")
        return self

    def __exit__(self, *exc_info: object) -> None:
        if exc_info[0] is None:
            self._tracer.join(10)
            assert not self._tracer.is_alive(), "the process did not end"

    def _trace(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(_ATTACH, self._thread_id, None, None) != 0:
            self._error = ctypes.get_errno()
            self._stopped.set()
            return
        os.waitpid(self._thread_id, _WAIT_ALL)
        self._stopped.set()
        while os.WIFSTOPPED(os.waitpid(self._thread_id, _WAIT_ALL)[1]):
            pass  # it stays stopped
