"""What can go wrong in the embedded stack.

LocalStackError
├── StateFolderError       the state folder cannot be used: where, why
│   └── StateFolderBusy    another supervisor holds it: its process id
├── StartFailed            a child ended or never became ready: its name and the end of its log
├── SharedMemoryTooSmall   the host caches cannot hold what is going to be shown
├── NodeOptionsError       a node description is malformed: key, value, what is expected
├── PrivilegeError         Postgres cannot be given an unprivileged user on this machine
├── ApiError               the gateway refused a call, or did not answer: which, and its words
├── DemoModelError         the demo's model cannot be fetched, or is not the expected file
└── DemoFailed             the demonstration did not get what it waits for
"""

from pathlib import Path

from libs.common.errors import HydraError

ENLARGE_SHARED_MEMORY = (
    "give it more: docker run --shm-size=2g for a container, "
    "mount -o remount,size=2G /dev/shm elsewhere; or set --host-cache"
)


class LocalStackError(HydraError):
    """Root of this package's errors."""


class StateFolderError(LocalStackError):
    def __init__(self, folder: Path, reason: str) -> None:
        self.folder, self.reason = folder, reason
        super().__init__(f"state folder {folder}: {reason}")


class StateFolderBusy(StateFolderError):
    def __init__(self, folder: Path, pid: int | None) -> None:
        self.pid = pid
        holder = "another supervisor" if pid is None else f"the supervisor with process id {pid}"
        super().__init__(folder, f"in use by {holder}; stop it, or set HYDRASERVE_STATE")


class StartFailed(LocalStackError):
    def __init__(self, name: str, reason: str, log_tail: str) -> None:
        self.name, self.reason, self.log_tail = name, reason, log_tail
        super().__init__(f"{name} {reason}\n{log_tail or '(its log is empty)'}")


class SharedMemoryTooSmall(LocalStackError):
    def __init__(self, free_bytes: int, cached_bytes: int, needed_bytes: int) -> None:
        self.free_bytes, self.cached_bytes = free_bytes, cached_bytes
        self.needed_bytes = needed_bytes
        super().__init__(
            f"the model needs {_megabytes(needed_bytes)} of host caches, the nodes have "
            f"{_megabytes(cached_bytes)} together, and /dev/shm has {_megabytes(free_bytes)} free; "
            f"{ENLARGE_SHARED_MEMORY}"
        )


class NodeOptionsError(LocalStackError):
    def __init__(self, key: str, value: object, expected: str) -> None:
        self.key, self.value, self.expected = key, value, expected
        super().__init__(f"node option {key} is {value!r}; expected {expected}")


class PrivilegeError(LocalStackError):
    pass


class ApiError(LocalStackError):
    pass


class DemoModelError(LocalStackError):
    pass


class DemoFailed(LocalStackError):
    pass


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 10**6:.0f} MB"
