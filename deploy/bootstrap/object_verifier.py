"""Reads stored objects again and compares them with their names: an operator's command.

Objects are named by the digest of what they hold. What differs gets a row, by which the scheduler
has the models that need it imported again; nothing is deleted or written in the store.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import asyncpg

from libs.common.errors import ObjectMissing
from libs.common.network.token_bucket import TokenBucket
from libs.common.objectstore.content_digest import content_digest
from libs.common.objectstore.objectstore import ObjectStore, RangeSource

logger = logging.getLogger(__name__)

FOUND_BY = "sweep-objects --verify"
PREFIXES = ("units/", "tokenizers/", "manifests/")

_MARK = """
INSERT INTO damaged_objects (key, found_by, detail) VALUES ($1, $2, $3)
ON CONFLICT (key) DO UPDATE SET found_by = excluded.found_by, detail = excluded.detail,
    found_at = now(), is_handled = false, is_whole = false
"""
_SAY_WHOLE = "UPDATE damaged_objects SET is_whole = true WHERE key = $1 AND found_at < $2"

Connection = asyncpg.Connection  # of the owner of the tables


@dataclass
class VerifyResult:
    num_verified: int = 0
    num_bytes: int = 0
    damaged: list[str] = field(default_factory=list)  # keys


@dataclass(frozen=True)
class ObjectVerifier:
    """`verify` raises what the database raises, and ObjectStoreError: it may be repeated."""

    connection: "Connection[asyncpg.Record]"
    store: ObjectStore
    source: RangeSource  # reads what `store` holds
    rate_bytes_per_s: int  # 0: no limit

    async def verify(self) -> VerifyResult:
        result, pace = VerifyResult(), pacer(self.rate_bytes_per_s)
        for prefix in PREFIXES:
            for key in await self.store.list_keys(prefix):
                await self._verify(key, pace, result)
        return result

    async def _verify(self, key: str, pace: Callable[[int], None], result: VerifyResult) -> None:
        began_at = await self.connection.fetchval("SELECT now()")
        try:
            size_bytes = (await self.store.stat(key)).size_bytes
            connection = self.source.connect()
            found = await asyncio.to_thread(content_digest, connection, key, size_bytes, pace=pace)
        except ObjectMissing:  # swept meanwhile
            return
        result.num_verified += 1
        result.num_bytes += size_bytes
        if found == key.rpartition("/")[2]:
            await self.connection.execute(_SAY_WHOLE, key, began_at)
            return
        logger.error("%s is damaged: its content has the digest %s", key, found)
        await self.connection.execute(_MARK, key, FOUND_BY, f"its content has the digest {found}")
        result.damaged.append(key)


def pacer(
    rate_bytes_per_s: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[int], None]:
    """What waits, in the calling thread, so that no more bytes move per second. 0: no limit."""
    bucket = TokenBucket(rate_bytes_per_s, 0.0, clock())

    def pace(num_bytes: int) -> None:
        nonlocal bucket
        bucket = bucket.at(clock()).take(num_bytes)
        wait_s = bucket.wait_s()
        if wait_s > 0:
            sleep(wait_s)

    return pace
