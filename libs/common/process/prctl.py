"""What a process asks of the kernel for itself: prctl(2)."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


def end_with_parent() -> None:
    """SIGKILL when the parent *thread* ends. Not kept by children. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def adopt_orphans() -> None:
    """Descendants whose parent has ended become children of this process. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def forbid_inspection() -> None:
    """Other processes of this user cannot read this one's environment or memory, nor trace it.

    Not kept by what it executes. Raises OSError.
    """
    _prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))


def forbid_new_privileges() -> None:
    """Neither this process nor its descendants gain any by executing something. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))


def drop_capabilities() -> None:
    """All of the calling thread's, for good where new privileges are forbidden: being root means
    owning root's files then, and nothing else. Raises OSError."""
    _prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL))
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


def set_process_name(name: str) -> None:
    """As `ps -o comm` and /proc/<pid>/comm show the main thread; at most 15 bytes.

    Raises OSError.
    """
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(option: int, argument: "ctypes.c_ulong | ctypes.c_char_p") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, argument, zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")
