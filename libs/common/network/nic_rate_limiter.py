"""One rate limiter for all processes of a node: a small file in memory, mapped by each.

The fetcher, who knows the card's rate, creates it; workers attach. Linux has one monotonic clock
for all processes, and `flock` ends with its holder, so a process that dies leaves nothing behind.
The lock also orders what one process writes before what the next one reads, on any machine.
"""

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from libs.common.errors import NicRateLimiterError
from libs.common.network.token_bucket import TokenBucket

LIMITER_FILE_NAME: Final = "nic.ledger"  # beside the fetcher's socket

_MAGIC: Final = b"HSNIC001"
_LAYOUT: Final = struct.Struct("<8sQdd")  # magic, rate, level, filled at
_LOCK_TIMEOUT_S: Final = 0.05
_LOCK_RETRY_S: Final = 0.0002


class NicRateLimiter:
    """A token bucket for any thread of any process of the node."""

    def __init__(self, descriptor: int, *, monotonic_s: Callable[[], float]) -> None:
        """Takes over a descriptor of a whole limiter file."""
        self._descriptor, self._monotonic_s = descriptor, monotonic_s
        self._map = mmap.mmap(descriptor, _LAYOUT.size)
        self._thread_lock = threading.Lock()  # flock does not know threads

    @classmethod
    def create(
        cls, path: Path, rate_bytes_per_s: int, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> Self:
        """Make it, or set the rate of the one that is there: its users keep what they have.

        Raises OSError.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(descriptor, 0, _LAYOUT.size)
        limiter = cls(descriptor, monotonic_s=monotonic_s)
        with limiter._locked():
            limiter._write(TokenBucket(rate_bytes_per_s, 0.0, monotonic_s()))
        return limiter

    @classmethod
    def attach(cls, path: Path, *, monotonic_s: Callable[[], float] = time.monotonic) -> Self:
        """Raises NicRateLimiterError when there is none."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            raise NicRateLimiterError(f"{path}: {exc.strerror}") from exc
        if os.fstat(descriptor).st_size != _LAYOUT.size:
            os.close(descriptor)
            raise NicRateLimiterError(f"{path} is no rate limiter's file")
        limiter = cls(descriptor, monotonic_s=monotonic_s)
        if limiter._map[: len(_MAGIC)] != _MAGIC:
            limiter.close()
            raise NicRateLimiterError(f"{path} is no rate limiter's file")
        return limiter

    def close(self) -> None:
        self._map.close()
        os.close(self._descriptor)

    @property
    def rate_bytes_per_s(self) -> int:
        """0: no limit."""
        return self._read().rate_bytes_per_s

    def take(self, num_bytes: int, *, credit_s: float = 0.0) -> float:
        """0 when the bytes may move now and are booked; otherwise when to ask again, in seconds.

        Credit goes before others: it takes while the debt is below so many seconds of the rate.
        """
        with self._locked():
            bucket = self._read().at(self._monotonic_s())
            wait_s = bucket.wait_s(credit_s)
            self._write(bucket if wait_s else bucket.take(num_bytes))
        return wait_s

    def give_back(self, num_bytes: int) -> None:
        """Of what was taken, what did not move."""
        with self._locked():
            self._write(self._read().take(-num_bytes))

    def acquire(
        self, num_bytes: int, *, credit_s: float = 0.0, waits: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until the bytes may move. Without end only while others use the card up.

        `waits` is called before each wait.
        """
        while wait_s := self.take(num_bytes, credit_s=credit_s):
            waits()
            time.sleep(wait_s)

    def _read(self) -> TokenBucket:
        _, rate, level, filled_at_s = _LAYOUT.unpack(self._map)
        return TokenBucket(rate, level, filled_at_s)

    def _write(self, bucket: TokenBucket) -> None:
        fields = (bucket.rate_bytes_per_s, bucket.level_bytes, bucket.filled_at_s)
        _LAYOUT.pack_into(self._map, 0, _MAGIC, *fields)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread_lock:
            is_locked = self._lock()
            try:
                yield
            finally:
                if is_locked:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        """False when its holder is frozen: better one wrong sum than a node that stands still."""
        deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    return False
                time.sleep(_LOCK_RETRY_S)
