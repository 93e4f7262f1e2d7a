"""What can go wrong in a fetcher.

FetcherError
├── FetchFailed      a unit cannot be had: names the object, carries the reader's error code
├── FetchCancelled   nobody wants it any more
├── HostCacheFull    no room can be made: the numbers are in the message
└── ImportRefused    a source cannot become a model: a code, and a cause with the next step
"""

from libs.common.errors import HydraError
from libs.common.unitheader import UnitError


class FetcherError(HydraError):
    pass


class FetchFailed(FetcherError):
    def __init__(self, key: str, unit_error: UnitError, detail: str = "") -> None:
        self.key, self.unit_error = key, unit_error
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


class ImportRefused(FetcherError):
    """`code` is stable for programs, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)
