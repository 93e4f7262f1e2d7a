"""The priority of threads whose work nobody waits for."""

import os
import threading

_LOWEST_PRIORITY = 19


def take_lowest_priority() -> None:
    """Of the calling thread, for good: an executor's initializer."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
