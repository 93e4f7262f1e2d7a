"""Deletes objects that no registered model refers to any more: an operator's command.

No import is robbed of a unit that it finds stored and relies on: while objects are deleted the
table of models is locked, so none can begin or end, and with one under way nothing is deleted.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import asyncpg

from libs.common.objectstore.objectstore import ObjectStore
from libs.common.weights.manifest import manifest_key
from libs.common.weights.manifest_json import MAX_MANIFEST_BYTES, decode_manifest

logger = logging.getLogger(__name__)

PREFIXES = ("units/", "tokenizers/", "manifests/")
_FORGET = "DELETE FROM damaged_objects WHERE key = $1"
_LOCK_TIMEOUT = "3s"
_HOLD_S = 0.5  # registrations and the scheduler's imports wait so long at a time
_PAUSE_S = 0.5

Connection = asyncpg.Connection  # of the owner of the tables


class ImportUnderWay(Exception):
    """It may rely on any object of the store; whoever sweeps comes again later."""


@dataclass
class SweepResult:
    num_kept: int = 0
    orphans: list[str] = field(default_factory=list)  # keys
    num_bytes: int = 0  # of the orphans
    num_deleted: int = 0


@dataclass(frozen=True)
class ObjectSweeper:
    """With `is_dry_run` it only looks. `sweep` raises ImportUnderWay, what the database raises,
    ObjectStoreError, and ManifestError: what a model needs must be known before anything goes."""

    connection: "Connection[asyncpg.Record]"
    store: ObjectStore
    is_dry_run: bool
    _keys_by_manifest: dict[str, frozenset[str]] = field(default_factory=dict)

    async def sweep(self) -> SweepResult:
        swept = await self._look()
        remaining = list(swept.orphans)
        while remaining and not self.is_dry_run:
            swept.num_deleted += await self._delete_some(remaining)
            await asyncio.sleep(_PAUSE_S)
        return swept

    async def _look(self) -> SweepResult:
        keys = [key for prefix in PREFIXES for key in await self.store.list_keys(prefix)]
        needed = await self._needed()
        swept = SweepResult(orphans=[key for key in keys if key not in needed])
        swept.num_kept = len(keys) - len(swept.orphans)
        for key in swept.orphans:
            swept.num_bytes += (await self.store.stat(key)).size_bytes
        return swept

    async def _delete_some(self, remaining: list[str]) -> int:
        """Takes from the end of `remaining` until the lock has been held long enough."""
        num_deleted = 0
        async with self.connection.transaction():
            await self.connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            await self.connection.execute("LOCK TABLE models IN SHARE ROW EXCLUSIVE MODE")
            await self._require_no_import()
            needed = await self._needed()
            for key in _for_a_while(remaining):
                if key not in needed:
                    await self.store.delete(key)
                    await self.connection.execute(_FORGET, key)
                    num_deleted += 1
        return num_deleted

    async def _require_no_import(self) -> None:
        query = "SELECT count(*) FROM models WHERE state = 'IMPORTING'"
        if num_importing := await self.connection.fetchval(query):
            raise ImportUnderWay(f"{num_importing} models are being imported; sweep again later")

    async def _needed(self) -> frozenset[str]:
        """Keys of all objects of models that have a row, also while they are being deleted."""
        query = "SELECT DISTINCT manifest_digest FROM models WHERE manifest_digest IS NOT NULL"
        digests = [row[0] for row in await self.connection.fetch(query)]
        return frozenset[str]().union(*[await self._keys_of(digest) for digest in digests])

    async def _keys_of(self, digest: str) -> frozenset[str]:
        if digest not in self._keys_by_manifest:
            key = manifest_key(digest)
            manifest = decode_manifest(await self.store.get(key, max_bytes=MAX_MANIFEST_BYTES))
            entries: Sequence[str] = [
                *(unit.key for unit in manifest.units),
                *(file.key for file in manifest.tokenizer_files),
            ]
            self._keys_by_manifest[digest] = frozenset((key, *entries))
        return self._keys_by_manifest[digest]


def _for_a_while(remaining: list[str]) -> Iterator[str]:
    deadline_s = time.monotonic() + _HOLD_S
    while remaining and time.monotonic() < deadline_s:
        yield remaining.pop()
