"""Ends a worker process when its agent ends, whatever it is doing at that moment."""

import os
import signal

from libs.common.process.prctl import end_with_parent


def die_with_agent(agent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the agent ends; leave at once if it already has.

    Raises OSError when the kernel refuses.
    """
    end_with_parent()
    if os.getppid() != agent_pid:  # it ended before the request above, which then never fires
        os.kill(os.getpid(), signal.SIGKILL)
