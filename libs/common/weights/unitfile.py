"""Reading a unit from shared memory while its fetcher may still be writing it. Stdlib only."""

import mmap
import os
import time

from libs.common.errors import UnitFileError, UnitFileFailed, UnitFileLost, UnitFileTimeout
from libs.common.weights.unitheader import (
    CHUNK_STATES_OFFSET,
    UnitError,
    UnitHeader,
    UnitState,
    Word,
)

_FIRST_POLL_S = 0.0002
_MAX_POLL_S = 0.002


class UnitReader:
    """A read-only mapping of one unit file.

    The mapping lives as long as any view of it does: drop references, never close it under a
    tensor. The descriptor given is the caller's and may be closed at once: the mapping holds a
    duplicate of it, and thereby the lease that keeps the fetcher from evicting the unit.
    """

    def __init__(self, descriptor: int, *, digest: str, size_bytes: int) -> None:
        """Raises UnitFileError if the file is not the unit `digest` of `size_bytes`."""
        self.digest = digest
        file_size = os.fstat(descriptor).st_size
        if file_size < CHUNK_STATES_OFFSET:
            raise UnitFileError(f"unit file {digest}: it is not a unit file")
        mapping = _map(descriptor, file_size, digest)
        self._header = UnitHeader(mapping)
        fault = self._header.fault(file_size)
        if fault is None and self._header.digest != digest:
            fault = f"it holds unit {self._header.digest}"
        if fault is None and self._header[Word.SIZE_BYTES] != size_bytes:
            fault = f"its unit has {self._header[Word.SIZE_BYTES]} bytes instead of {size_bytes}"
        if fault is not None:
            raise UnitFileError(f"unit file {digest}: {fault}")
        self._data = mapping[self._header[Word.HEADER_BYTES] :]
        self._is_abandoned = False

    @property
    def data(self) -> memoryview:
        """All bytes of the unit, read-only. Only the first `verified_bytes` mean anything."""
        return self._data

    @property
    def size_bytes(self) -> int:
        return self._header[Word.SIZE_BYTES]

    @property
    def verified_bytes(self) -> int:
        """How many bytes from the start may be read."""
        return self._header[Word.VERIFIED_BYTES]

    @property
    def is_complete(self) -> bool:
        return self._header.state is UnitState.COMPLETE

    @property
    def generation(self) -> int:
        return self._header[Word.GENERATION]

    @property
    def is_writer_lost(self) -> bool:
        """Whether the unit is incomplete and nobody has worked on it for two seconds."""
        return not self.is_complete and self._header.is_writer_lost(time.monotonic_ns())

    def wait_prefix(self, nbytes: int, deadline_s: float) -> None:
        """Return when the first `nbytes` are verified.

        `deadline_s` is on time.monotonic(). A lost writer is waited for until then, because a
        restarted fetcher goes on in the same file. Raises UnitFileFailed, UnitFileLost,
        UnitFileTimeout, or UnitFileError after `abandon`.
        """
        poll_s = _FIRST_POLL_S
        while self.verified_bytes < nbytes:
            self._raise_if_failed()
            if self._is_abandoned:
                raise UnitFileError(f"nobody waits for unit {self.digest} any more")
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise self._late(nbytes)
            time.sleep(min(poll_s, remaining_s))
            poll_s = min(poll_s * 2, _MAX_POLL_S)
        self._raise_if_failed()

    def wait_complete(self, deadline_s: float) -> None:
        self.wait_prefix(self.size_bytes, deadline_s)

    def abandon(self) -> None:
        """Nobody needs what has not arrived: end every wait for it. Any thread."""
        self._is_abandoned = True

    def _raise_if_failed(self) -> None:
        if self._header.state is UnitState.FAILED:
            error = UnitError(self._header[Word.ERROR])
            raise UnitFileFailed(self.digest, error, error.reason)

    def _late(self, nbytes: int) -> UnitFileError:
        have = f"{self.verified_bytes} of {nbytes} bytes of unit {self.digest} had arrived"
        if self.is_writer_lost:
            return UnitFileLost(f"the fetcher is gone and did not come back; {have}")
        return UnitFileTimeout(f"deadline passed; {have}")


def _map(descriptor: int, file_size_bytes: int, digest: str) -> memoryview:
    try:
        return memoryview(mmap.mmap(descriptor, file_size_bytes, prot=mmap.PROT_READ))
    except OSError as exc:  # too many open files, or no address space
        raise UnitFileError(f"unit file {digest} cannot be mapped: {exc.strerror}") from exc
