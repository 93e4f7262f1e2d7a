"""What can go wrong in a fetcher.

FetcherError
├── FetchFailed      a unit cannot be had: names the object, carries the reader's error code
├── FetchCancelled   nobody wants it any more
├── HostCacheFull    no room can be made: the numbers are in the message
│   └── SharedMemoryFull  the cache may be larger, but its file system has no room for more
└── ImportRefused    a source cannot become a model: a code, and a cause with the next step
"""

from pathlib import Path

from libs.common.errors import HydraError
from libs.common.weights.unitheader import UnitError


class FetcherError(HydraError):
    pass


class FetchFailed(FetcherError):
    def __init__(self, key: str, unit_error: UnitError, detail: str = "") -> None:
        self.key, self.unit_error, self.detail = key, unit_error, detail
        super().__init__(f"{key}: {unit_error.reason}" + (f" ({detail})" if detail else ""))


class FetchCancelled(FetcherError):
    pass


class HostCacheFull(FetcherError):
    def __init__(
        self, needed_bytes: int, capacity_bytes: int, used_bytes: int, held_bytes: int
    ) -> None:
        self.needed_bytes, self.capacity_bytes = needed_bytes, capacity_bytes
        self.used_bytes, self.held_bytes = used_bytes, held_bytes
        super().__init__(
            f"the host cache has no room for {needed_bytes} bytes: {used_bytes} of "
            f"{capacity_bytes} are used, and {held_bytes} of them are in use by workers or fetches"
        )

    @property
    def can_never_fit(self) -> bool:
        """It would not fit if nothing else were there."""
        return self.needed_bytes > self.capacity_bytes


class SharedMemoryFull(HostCacheFull):
    """`capacity_bytes` and `used_bytes` are the file system's; `held_bytes` is this cache's."""

    def __init__(
        self, needed_bytes: int, size_bytes: int, free_bytes: int, held_bytes: int, folder: Path
    ) -> None:
        super().__init__(needed_bytes, size_bytes, size_bytes - free_bytes, held_bytes)
        self.free_bytes, self.folder = free_bytes, folder
        self.args = (
            f"shared memory is full: {needed_bytes} bytes are needed in {folder}, whose file "
            f"system has {free_bytes} of {size_bytes} free, and {held_bytes} are in use by workers "
            "or fetches; enlarge its mount (a container's --shm-size, a volume's size), or lower "
            "HYDRA_HOST_CACHE_BYTES on the nodes that share it",
        )


class ImportRefused(FetcherError):
    """`code` is stable for programs, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)
