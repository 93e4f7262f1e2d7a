"""An object store in memory, for tests: management and ranged reads, with faults on demand.

It passes the same contract suite as S3. Faults are taken one per ranged read, in the order given.
"""

import threading
from collections import deque
from dataclasses import dataclass, field

from libs.common.errors import (
    ObjectMissing,
    ObjectStoreDown,
    ObjectStoreRefused,
    ObjectTooLarge,
)
from libs.common.objectstore.objectstore import ObjectInfo, RangeConnection, Readable
from libs.common.weights.manifest import ByteRange

HOLD_LIMIT_S = 30.0


@dataclass(frozen=True)
class CutAfter:
    """The connection breaks after so many bytes of the range."""

    nbytes: int


@dataclass(frozen=True)
class FlipByte:
    """One byte of the range, at most its last, arrives with one bit changed."""

    index: int
    bit: int = 0


@dataclass(frozen=True)
class Unavailable:
    """The store answers 503."""


@dataclass(frozen=True)
class NoFault:
    pass


Fault = CutAfter | FlipByte | Unavailable | NoFault


@dataclass(frozen=True)
class _Stored:
    data: bytes
    digest: str


@dataclass
class MemoryObjectStore:
    is_down: bool = False
    is_forbidden: bool = False
    faults: deque[Fault] = field(default_factory=deque)
    max_read_bytes: int = 1 << 18  # one readinto yields at most this much
    hold_after_bytes: int | None = None  # reads stop there until `release`
    bytes_read: int = 0
    num_puts: int = 0
    ranges_opened: list[tuple[str, ByteRange]] = field(default_factory=list)
    _objects: dict[str, _Stored] = field(default_factory=dict)
    _released: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def put(self, key: str, source: Readable, *, size_bytes: int, digest: str) -> None:
        self._check(key)
        data = source.read(size_bytes)
        if len(data) != size_bytes:
            raise ObjectStoreDown(f"{key}: the stream ended after {len(data)} bytes")
        self.num_puts += 1
        self._objects[key] = _Stored(data, digest)

    async def put_bytes(self, key: str, data: bytes, *, digest: str) -> None:
        self._check(key)
        self.num_puts += 1
        self._objects[key] = _Stored(data, digest)

    async def stat(self, key: str) -> ObjectInfo:
        stored = self._find(key)
        return ObjectInfo(key, len(stored.data), stored.digest)

    async def get(self, key: str, *, max_bytes: int) -> bytes:
        data = self._find(key).data
        if len(data) > max_bytes:
            raise ObjectTooLarge(key, len(data), max_bytes)
        return data

    async def list_keys(self, prefix: str) -> tuple[str, ...]:
        self._check(prefix)
        return tuple(sorted(key for key in self._objects if key.startswith(prefix)))

    async def delete(self, key: str) -> None:
        self._check(key)
        self._objects.pop(key, None)

    def connect(self) -> RangeConnection:
        return _MemoryConnection(self)

    def release(self) -> None:
        """Let held reads go on."""
        self._released.set()

    def open(self, key: str, extent: ByteRange, object_size_bytes: int) -> "_MemoryBody":
        data = self._find(key).data
        if len(data) != object_size_bytes:
            raise ObjectStoreRefused(f"{key}: the object has {len(data)} bytes")
        with self._lock:
            self.ranges_opened.append((key, extent))
            fault = self.faults.popleft() if self.faults else NoFault()
        if isinstance(fault, Unavailable):
            raise ObjectStoreDown(f"{key}: the object store answers 503")
        return _MemoryBody(self, data[extent.start : extent.end], fault)

    def count_read(self, nbytes: int) -> None:
        with self._lock:
            self.bytes_read += nbytes
            is_held = self.hold_after_bytes is not None and self.bytes_read > self.hold_after_bytes
        if is_held and not self._released.wait(HOLD_LIMIT_S):
            raise ObjectStoreDown("held for too long")

    def _check(self, key: str) -> None:
        if self.is_down:
            raise ObjectStoreDown(f"{key}: cannot connect")
        if self.is_forbidden:
            raise ObjectStoreRefused(f"{key}: the object store answers AccessDenied")

    def _find(self, key: str) -> _Stored:
        self._check(key)
        try:
            return self._objects[key]
        except KeyError as exc:
            raise ObjectMissing(key) from exc


class _MemoryConnection:
    def __init__(self, store: MemoryObjectStore) -> None:
        self._store = store

    def open_range(self, key: str, extent: ByteRange, object_size_bytes: int) -> "_MemoryBody":
        return self._store.open(key, extent, object_size_bytes)

    def close(self) -> None:
        pass

    def abort(self) -> None:
        """What it holds is let go by the store's `release`."""


class _MemoryBody:
    def __init__(self, store: MemoryObjectStore, data: bytes, fault: Fault) -> None:
        self._store, self._position = store, 0
        self._data = bytearray(data)
        if isinstance(fault, FlipByte):
            self._data[min(fault.index, len(self._data) - 1)] ^= 1 << fault.bit
        if isinstance(fault, CutAfter):
            del self._data[fault.nbytes :]

    def readinto(self, buffer: memoryview) -> int:
        if self._store.is_down:
            raise ObjectStoreDown("the connection is gone")
        wanted = min(len(buffer), self._store.max_read_bytes)
        piece = self._data[self._position : self._position + wanted]
        self._store.count_read(len(piece))
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)
