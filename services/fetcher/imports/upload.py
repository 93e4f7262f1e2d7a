"""Putting objects into the store: once each, at background priority, through long outages.

An object that is there already is read and hashed before it is relied on, which moves as many bytes
as sending it would: disks and proxies change bytes, and everything that shares the object would be
wrong for ever. One that is damaged is written again; its name, the digest, says what belongs there.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import BinaryIO, TypeVar

from blake3 import blake3

from libs.common.errors import ObjectMissing, ObjectStoreDown, ObjectTooLarge
from libs.common.objectstore.content_digest import content_digest
from libs.common.objectstore.objectstore import ObjectStore, RangeSource
from libs.common.states import FetchClass
from services.fetcher.errors import ImportRefused
from services.fetcher.fetching.governor import Flow, NicGovernor
from services.fetcher.fetching.transfer import RetryPolicy

logger = logging.getLogger(__name__)

_MAX_PIECE_BYTES = 1 << 20

_Result = TypeVar("_Result")


class Uploader:
    """Objects are named by their content: one that is there, and whole, need not be sent again."""

    def __init__(
        self, store: ObjectStore, source: RangeSource, governor: NicGovernor, retry: RetryPolicy
    ) -> None:
        """`source` reads what `store` holds."""
        self._store, self._source = store, source
        self._governor, self._retry = governor, retry

    async def put_file(self, key: str, file: BinaryIO, *, size_bytes: int, digest: str) -> bool:
        """Whether the bytes were sent. Raises ImportRefused when the store stayed away."""

        async def once() -> bool:
            if await self._has(key, size_bytes, digest):
                return False
            file.seek(0)
            with self._background_flow() as flow:
                source = _GovernedReader(file, self._governor, flow)
                await self._store.put(key, source, size_bytes=size_bytes, digest=digest)
            return True

        return await self._patiently(key, once)

    async def put_bytes(self, key_of: Callable[[str], str], data: bytes) -> str:
        """The digest that names the object."""
        digest = blake3(data).hexdigest()
        key = key_of(digest)

        async def once() -> None:
            if not await self._has(key, len(data), digest):
                await self._store.put_bytes(key, data, digest=digest)

        await self._patiently(key, once)
        return digest

    async def is_whole(self, key: str, size_bytes: int, digest: str) -> bool:
        """Whether the store has the object, with the bytes that its digest names.

        Raises ImportRefused when the store stayed away.
        """

        async def once() -> bool:
            return await self._has(key, size_bytes, digest)

        return await self._patiently(key, once)

    async def read_whole(self, key: str, digest: str, max_bytes: int) -> bytes | None:
        """A small object; None where it is missing or damaged. Raises ImportRefused as above."""

        async def once() -> bytes | None:
            try:
                data = await self._store.get(key, max_bytes=max_bytes)
            except (ObjectMissing, ObjectTooLarge):
                return None
            return data if blake3(data).hexdigest() == digest else None

        return await self._patiently(key, once)

    async def _has(self, key: str, size_bytes: int, digest: str) -> bool:
        try:
            if (await self._store.stat(key)).size_bytes != size_bytes:
                return False
            found = await self._digest(key, size_bytes)
        except ObjectMissing:
            return False
        if found != digest:
            logger.error("%s is damaged in the object store", key)
        return found == digest

    async def _digest(self, key: str, size_bytes: int) -> str:
        connection = self._source.connect()
        with self._background_flow() as flow:
            call = partial(
                content_digest,
                connection,
                key,
                size_bytes,
                pace=partial(self._governor.acquire, flow),
                piece_bytes=min(self._governor.grant_bytes, _MAX_PIECE_BYTES),
            )
            try:
                return await asyncio.to_thread(call)
            except asyncio.CancelledError:
                connection.abort()
                raise

    @contextlib.contextmanager
    def _background_flow(self) -> Iterator[Flow]:
        flow = self._governor.open_flow(FetchClass.BACKGROUND)
        try:
            yield flow
        finally:
            self._governor.close_flow(flow)

    async def _patiently(self, key: str, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        started_s, num_failures = time.monotonic(), 0
        while True:
            try:
                return await attempt()
            except ObjectStoreDown as exc:
                waited_s = time.monotonic() - started_s
                if waited_s > self._retry.patience_s:
                    raise ImportRefused(
                        "store_unreachable",
                        f"the object store could not be reached for {waited_s:.0f} s ({exc}); "
                        "register the model again when it is back: what was stored stays",
                    ) from exc
                num_failures += 1
                logger.warning("the import waits for the object store: %s", exc)
                await asyncio.sleep(self._retry.delay_s(num_failures))


class _GovernedReader:
    """A file that is read no faster than the network card's background share."""

    def __init__(self, file: BinaryIO, governor: NicGovernor, flow: Flow) -> None:
        self._file, self._governor, self._flow = file, governor, flow

    def read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0:
            wanted = min(size, self._governor.grant_bytes)
            self._governor.acquire(self._flow, wanted)
            piece = self._file.read(wanted)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
