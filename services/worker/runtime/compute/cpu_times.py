"""What the kernel says of processor time: of this process's threads, and of idle cores."""

import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IDLE_COLUMNS = slice(4, 6)  # of a core's line in /proc/stat: idle, and waiting for a disk


@dataclass(frozen=True)
class ThreadTime:
    """Nanoseconds since the thread began."""

    run_ns: int
    wait_ns: int  # it could have run, and another thread did


def read_thread_times(tasks: Path = Path("/proc/self/task")) -> dict[int, ThreadTime]:
    """Of all threads, by id; empty where the kernel does not say."""
    found = {}
    for name in os.listdir(tasks):
        try:
            run_ns, wait_ns, _ = (tasks / name / "schedstat").read_text().split()
        except (OSError, ValueError):  # it has ended, or this kernel counts nothing
            continue
        found[int(name)] = ThreadTime(int(run_ns), int(wait_ns))
    return found


def read_idle_s(cores: Set[int], stat: Path = Path("/proc/stat")) -> float | None:
    """For how long these cores have been idle, added up; None where the kernel does not say."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return None
    names = {f"cpu{core}" for core in cores}
    ticks = [sum(map(int, line[_IDLE_COLUMNS])) for line in lines if line and line[0] in names]
    return sum(ticks) / TICKS_PER_S if ticks else None
