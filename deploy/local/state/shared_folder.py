"""The supervisor's folder in shared memory, and the removal of those whose supervisor died.

Its name holds the supervisor's process id and start time, and its supervisor holds a lock on it:
either sign of life keeps it, so that neither a reused id nor another process namespace can mislead.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.local.processes.procfs import process_status

SHARED_MEMORY = Path("/dev/shm")
_NAME = re.compile(r"hydraserve-(?P<pid>\d+)-(?P<ticks>\d+)(-\d+)?")


@contextmanager
def shared_folder(base: Path = SHARED_MEMORY) -> Iterator[Path]:
    """A fresh 0700 folder in tmpfs, removed at the end whatever ended it."""
    folder = _create(base)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def sweep_shared_folders(base: Path = SHARED_MEMORY) -> list[Path]:
    """Removes what dead supervisors of this user left, and says what that was."""
    dead = abandoned_folders(base)
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return dead


def abandoned_folders(base: Path = SHARED_MEMORY) -> list[Path]:
    """Of this user's supervisors that died."""
    return [folder for folder in base.glob("hydraserve-*") if _is_abandoned(folder)]


def _create(base: Path) -> Path:
    """One process may supervise several stacks: the second one's folder gets a number."""
    own = process_status(os.getpid())
    assert own is not None, "we run"
    name = f"hydraserve-{os.getpid()}-{own.start_ticks}"
    for folder in (base / name, *(base / f"{name}-{number}" for number in range(2, 100))):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise OSError(f"no free name for {base / name}")


def _is_abandoned(folder: Path) -> bool:
    match = _NAME.fullmatch(folder.name)
    try:
        return match is not None and _has_lost_its_supervisor(folder, match)
    except FileNotFoundError:  # its supervisor ends at this moment and removes it
        return False


def _has_lost_its_supervisor(folder: Path, match: re.Match[str]) -> bool:
    if folder.stat().st_uid != os.geteuid():
        return False
    status = process_status(int(match["pid"]))
    is_alive = status is not None and status.start_ticks == int(match["ticks"])
    return not is_alive and not _is_locked(folder)


def _is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
