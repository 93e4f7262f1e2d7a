"""Ends orphans: processes that an earlier supervisor left, found in /proc by what they hold."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from deploy.local.errors import LocalStackError
from deploy.local.processes.procfs import all_pids, is_running

_POLL_PERIOD_S = 0.02


def end_orphans(is_orphan: Callable[[Path], bool], timeout_s: float) -> int:
    """Kills every process whose /proc folder satisfies `is_orphan` until none is left.

    Returns how many there were. Raises LocalStackError when one survives `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    seen: set[int] = set()
    while orphans := set(running_pids(is_orphan)):
        seen |= orphans
        if time.monotonic() > deadline:
            raise LocalStackError(f"processes {sorted(orphans)} of an earlier run do not end")
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_PERIOD_S)
    return len(seen)


def has_working_folder(folder: Path) -> Callable[[Path], bool]:
    """Processes whose working folder is `folder`, as all of a Postgres cluster's are."""

    def holds(process: Path) -> bool:
        return Path(os.readlink(process / "cwd")) == folder

    return holds


def has_variable(name: str, value: str) -> Callable[[Path], bool]:
    """Processes that were started with `name=value` in their environment."""
    entry = f"{name}={value}".encode()

    def holds(process: Path) -> bool:
        return entry in (process / "environ").read_bytes().split(b"\0")

    return holds


def running_pids(holds: Callable[[Path], bool]) -> Iterator[int]:
    """Ids of running processes but our own for which `holds` is true.

    Processes of others vanish or refuse while we look: neither is ours to end.
    """
    for pid in all_pids():
        if pid != os.getpid():
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if holds(Path(f"/proc/{pid}")) and is_running(pid):
                    yield pid
