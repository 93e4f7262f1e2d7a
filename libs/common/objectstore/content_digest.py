"""The digest of what an object really holds: equal sizes say nothing of equal bytes."""

from collections.abc import Callable
from contextlib import closing

from blake3 import blake3

from libs.common.errors import ObjectStoreDown
from libs.common.objectstore.objectstore import RangeBody, RangeConnection
from libs.common.weights.manifest import ByteRange

_RANGE_BYTES = 8 << 20


def content_digest(
    connection: RangeConnection,
    key: str,
    size_bytes: int,
    *,
    pace: Callable[[int], None],
    piece_bytes: int = 1 << 20,
) -> str:
    """BLAKE3 of all bytes of the object. Blocking; closes the connection, and `abort` ends it.

    `pace` is called with a number of bytes, at most `piece_bytes`, before they are read, and may
    wait. Raises ObjectMissing, ObjectStoreDown, ObjectStoreRefused.
    """
    hasher, buffer = blake3(), memoryview(bytearray(piece_bytes))
    with closing(connection):
        for start in range(0, size_bytes, _RANGE_BYTES):
            extent = ByteRange(start, min(start + _RANGE_BYTES, size_bytes))
            body, left = connection.open_range(key, extent, size_bytes), extent.nbytes
            while left > 0:
                piece = buffer[: min(left, piece_bytes)]
                pace(len(piece))
                _fill(body, piece, key)
                hasher.update(piece)
                left -= len(piece)
    return hasher.hexdigest()


def _fill(body: RangeBody, buffer: memoryview, key: str) -> None:
    while buffer:
        count = body.readinto(buffer)
        if count == 0:
            raise ObjectStoreDown(f"{key}: the connection ended early")
        buffer = buffer[count:]
