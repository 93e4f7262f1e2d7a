"""Looking at a model's objects in the store again: whether all of them are what they should be."""

from collections.abc import Callable, Collection, Iterator

from libs.common.errors import ManifestError
from libs.common.weights.manifest import FileEntry, Manifest, UnitEntry, manifest_key
from libs.common.weights.manifest_json import MAX_MANIFEST_BYTES, decode_manifest
from services.fetcher.imports.upload import Uploader


async def find_whole(
    uploader: Uploader,
    manifest_digest: str,
    suspect_keys: Collection[str],
    report: Callable[[int, int], None],
) -> Manifest | None:
    """The model's manifest if every object of it is whole, else None. `suspect_keys` are looked at
    first: where one is damaged, the rest is not read in vain.

    What a node took for damage may have happened on the way to it, and the source may be gone.
    `report` is told how many bytes were found whole, and of how many. Raises ImportRefused when the
    store stayed away.
    """
    manifest = await _read_manifest(uploader, manifest_digest)
    if manifest is None:
        return None
    entries = sorted(_objects(manifest), key=lambda entry: entry.key not in suspect_keys)
    total_bytes, whole_bytes = sum(entry.size_bytes for entry in entries), 0
    for entry in entries:
        report(whole_bytes, total_bytes)
        if not await uploader.is_whole(entry.key, entry.size_bytes, entry.digest):
            return None
        whole_bytes += entry.size_bytes
    report(whole_bytes, total_bytes)
    return manifest


async def _read_manifest(uploader: Uploader, digest: str) -> Manifest | None:
    data = await uploader.read_whole(manifest_key(digest), digest, MAX_MANIFEST_BYTES)
    if data is None:
        return None
    try:
        return decode_manifest(data)
    except ManifestError:  # of another version of this software
        return None


def _objects(manifest: Manifest) -> Iterator[UnitEntry | FileEntry]:
    yield from manifest.units
    yield from manifest.tokenizer_files
