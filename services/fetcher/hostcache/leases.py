"""Leases of unit files: a shared `flock` on a descriptor of its own, ended by the kernel.

The lock belongs to the open file description, so it lasts until the last copy of the descriptor
is closed, in whatever process that is, or that process dies.
"""

import fcntl
import os
from pathlib import Path


def open_lease(path: Path) -> int:
    """A fresh read-only descriptor that holds the lease; whoever gets it owns it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_leased(path: Path) -> bool:
    """Whether anybody holds a lease that this name leads to; the answer holds until a new one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_unless_leased(path: Path) -> bool:
    """Removes the file, if nobody holds a lease; whether it is gone. No lease begins meanwhile.

    Where this is the file's last use its memory is freed here, which takes a while.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
