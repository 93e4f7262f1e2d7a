"""What the kernel tells of processes, in /proc/<pid>/stat (proc(5))."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ENDED = frozenset("ZX")


@dataclass(frozen=True)
class ProcessStatus:
    state: str  # one letter
    parent_pid: int
    start_ticks: int  # since boot; with the id it names a process for good

    @property
    def is_running(self) -> bool:
        """A zombie has ended and only waits for its parent to look."""
        return self.state not in _ENDED


def process_status(pid: int) -> ProcessStatus | None:
    """None when there is no such process."""
    with suppress(FileNotFoundError, ProcessLookupError):
        # Field 2, the name, stands in brackets and may hold anything, brackets too.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return ProcessStatus(fields[0], int(fields[1]), int(fields[19]))
    return None


def process_name(pid: int) -> str | None:
    """As `ps -o comm` shows it; None when there is no such process."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    return None


def is_running(pid: int) -> bool:
    status = process_status(pid)
    return status is not None and status.is_running


def all_pids() -> list[int]:
    """Of all processes that we can see; any of them may be gone when it is looked at."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
