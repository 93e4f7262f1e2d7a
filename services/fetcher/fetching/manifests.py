"""Manifests from the object store, each checked against its digest, the last few kept."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from libs.common.errors import ObjectStoreDown
from libs.common.objectstore.objectstore import ObjectStore
from libs.common.weights.manifest import Manifest, manifest_key
from libs.common.weights.manifest_json import MAX_MANIFEST_BYTES, decode_manifest, manifest_digest
from libs.common.weights.unitheader import UnitError
from services.fetcher.errors import FetchFailed
from services.fetcher.fetching.transfer import RetryPolicy

_MAX_KEPT = 64


@dataclass(frozen=True)
class LoadedManifest:
    data: bytes
    manifest: Manifest


class Manifests:
    def __init__(self, store: ObjectStore, retry: RetryPolicy) -> None:
        self._store, self._retry = store, retry
        self._kept: OrderedDict[str, LoadedManifest] = OrderedDict()

    async def load(self, digest: str) -> LoadedManifest:
        """Raises FetchFailed for bytes that are not the manifest's, ManifestError, ObjectMissing,
        ObjectStoreRefused, or ObjectStoreDown when the store stayed away for the policy's patience.
        """
        if digest not in self._kept:
            data = await self._get(digest)
            if manifest_digest(data) != digest:
                raise FetchFailed(manifest_key(digest), UnitError.DIGEST_MISMATCH)
            self._kept[digest] = LoadedManifest(data, decode_manifest(data))
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(digest)
        return self._kept[digest]

    async def _get(self, digest: str) -> bytes:
        started_s, num_failures = time.monotonic(), 0
        while True:
            try:
                return await self._store.get(manifest_key(digest), max_bytes=MAX_MANIFEST_BYTES)
            except ObjectStoreDown:
                if time.monotonic() - started_s > self._retry.patience_s:
                    raise
                num_failures += 1
                await asyncio.sleep(self._retry.delay_s(num_failures))
