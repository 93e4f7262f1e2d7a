"""Where weights are stored: the ports, and what all stores have in common.

Objects are immutable and named by their content's digest: a key says what its object has to hold.
Whether it does is another question (`content_digest.py`), as disks and proxies change bytes.
`ObjectStore` is for management (asyncio); `RangeSource` is for bulk reads (threads), straight into
the caller's memory. Two implementations each: `s3store.py`, `s3ranges.py` and the double in
`testing_objectstore.py`; one contract suite runs on both.
"""

from dataclasses import dataclass
from typing import Protocol

from libs.common.weights.manifest import ByteRange

DIGEST_METADATA = "blake3"


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    size_bytes: int
    digest: str | None  # as its writer declared it


class Readable(Protocol):
    def read(self, size: int) -> bytes:
        """At most `size` bytes; less only at the end."""


class ObjectStore(Protocol):
    """Every method raises ObjectStoreDown when a repetition may help, and ObjectStoreRefused
    when the store answers and says no."""

    async def put(self, key: str, source: Readable, *, size_bytes: int, digest: str) -> None:
        """Store exactly `size_bytes` from `source`, read once from its position to its end."""

    async def put_bytes(self, key: str, data: bytes, *, digest: str) -> None: ...

    async def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectMissing."""

    async def get(self, key: str, *, max_bytes: int) -> bytes:
        """A small object whole. Raises ObjectMissing, ObjectTooLarge."""

    async def list_keys(self, prefix: str) -> tuple[str, ...]: ...

    async def delete(self, key: str) -> None:
        """Deleting what does not exist is no error."""


class RangeBody(Protocol):
    """The bytes of one range, arriving."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill some of `buffer`; 0 means that the connection ended. Raises ObjectStoreDown."""


class RangeConnection(Protocol):
    """One connection, used by one thread, reused from range to range."""

    def open_range(self, key: str, extent: ByteRange, object_size_bytes: int) -> RangeBody:
        """Start reading. The previous body must have been read to its end.

        Raises ObjectMissing, ObjectStoreDown, or ObjectStoreRefused: wrong credentials, no range
        support, or an object of another size.
        """

    def close(self) -> None:
        """Also after an error; the next `open_range` connects anew."""

    def abort(self) -> None:
        """By any thread, once: what is being read ends with ObjectStoreDown, nothing new begins."""


class RangeSource(Protocol):
    def connect(self) -> RangeConnection: ...
