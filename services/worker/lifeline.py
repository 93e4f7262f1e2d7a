"""A worker process ends when its agent does, whatever it is doing at that moment."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_agent(agent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the agent ends; leave at once if it already has.

    Raises OSError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")
    if os.getppid() != agent_pid:  # it ended before the request above, which then never fires
        os.kill(os.getpid(), signal.SIGKILL)
