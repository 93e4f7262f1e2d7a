"""Landlock: a process gives up every file but those it names, for itself and all that it starts.

It needs no privilege, and a Linux of 5.13 or later that was built with it. A process in such a
domain cannot look into one outside (its environment, its memory) whoever its user is. Newer kernels
also take TCP (6.7) and signals to others (6.12) from it. See landlock(7) and `linux/landlock.h`.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# The same on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_FIRST_RIGHTS: Final = (1 << 13) - 1  # to files and folders, of the first version
_TRUNCATE: Final = 1 << 14
_LATER_RIGHTS: Final = {2: 1 << 13, 3: _TRUNCATE, 5: 1 << 15}  # by the version that has it first
_TCP_VERSION, _TCP = 4, 0b11  # bind and connect
_SCOPE_VERSION, _SCOPES = 6, 0b11  # abstract sockets and signals

_READING: Final = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE  # the others are of folders

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def version() -> int:
    """Of the kernel's Landlock; 0 where there is none."""
    found = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    return max(0, int(found))


def confine(
    readable: Iterable[Path], writable: Iterable[Path], descriptors: Iterable[int] = ()
) -> None:
    """Nothing else can be opened from now on. What is missing of the paths is left out.

    `descriptors` are open files that may be opened again, to be read. Call it while there is one
    thread, after `forbid_new_privileges`. Raises OSError.
    """
    supported = version()
    if supported == 0:
        raise OSError(f"{os.uname().release} has no Landlock")
    rights = _rights(supported)
    ruleset = _create_ruleset(supported, rights)
    try:
        for path in readable:
            _allow_path(ruleset, path, _READING)
        for path in writable:
            _allow_path(ruleset, path, rights & ~_EXECUTE)
        for descriptor in descriptors:
            _allow(ruleset, descriptor, _READ_FILE)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _rights(supported: int) -> int:
    later = (right for first, right in _LATER_RIGHTS.items() if supported >= first)
    return _FIRST_RIGHTS | sum(later)


def _create_ruleset(supported: int, rights: int) -> int:
    tcp = _TCP if supported >= _TCP_VERSION else 0
    scopes = _SCOPES if supported >= _SCOPE_VERSION else 0
    ruleset = _Ruleset(rights, tcp, scopes)
    # Older kernels know less of the structure.
    size = 24 if scopes else 16 if tcp else 8
    return _call(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))


def _allow_path(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _allow(ruleset, descriptor, rights)
    finally:
        os.close(descriptor)


def _allow(ruleset: int, descriptor: int, rights: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _OF_FILES
    rule = _PathBeneath(rights, descriptor)
    _call(
        _ADD_RULE,
        ctypes.c_int(ruleset),
        ctypes.c_int(_PATH_BENEATH),
        ctypes.byref(rule),
        ctypes.c_uint32(0),
    )


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return result
