"""Manifests of the catalogue's models, made of their numbers."""

from collections import OrderedDict
from typing import Final

from benchmarks.controlplane.catalogue import (
    CONTEXT_TOKENS,
    KV_BYTES_PER_TOKEN,
    NUM_LAYERS,
    VOCABULARY,
    Catalogue,
    unit_digests,
    unit_sizes_bytes,
)
from libs.common.errors import ObjectMissing
from libs.common.weights.manifest import Manifest, UnitEntry, UnitKind, manifest_key
from services.fetcher.fetching.manifests import LoadedManifest

CHUNK_BYTES: Final = 64 * 2**20  # larger than real ones: each chunk costs the simulation an event
MAX_KEPT: Final = 256  # of the whole process: nodes share them
_NO_DIGEST: Final = "0" * 64  # of chunks, which nobody hashes


class CatalogueManifests:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._numbers: dict[str, int] = {}  # of all models that were loaded, by unit
        self._kept: OrderedDict[str, LoadedManifest] = OrderedDict()

    async def load(self, digest: str) -> LoadedManifest:
        """Raises ObjectMissing for what is not in the catalogue."""
        if digest not in self._kept:
            number = self._catalogue.number_of(digest)
            if number is None:
                raise ObjectMissing(manifest_key(digest))
            self._kept[digest] = LoadedManifest(b"", manifest_of(number))
            self._numbers.update(dict.fromkeys(unit_digests(number), number))
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(digest)
        return self._kept[digest]

    def number_of_unit(self, digest: str) -> int | None:
        """The model that the unit is of; None if nobody has loaded its manifest."""
        return self._numbers.get(digest)


def manifest_of(number: int) -> Manifest:
    places = zip(_PLACES, unit_digests(number), unit_sizes_bytes(), strict=True)
    return Manifest(
        architecture="LlamaForCausalLM",
        config_json="{}",
        dtype="BF16",
        max_context_tokens=CONTEXT_TOKENS,
        vocab_size=VOCABULARY,
        bos_token_id=None,
        eos_token_ids=(),
        kv_bytes_per_token=KV_BYTES_PER_TOKEN,
        tokenizer_files=(),
        units=tuple(_unit(kind, layer, digest, size) for (kind, layer), digest, size in places),
    )


_PLACES: Final = (
    (UnitKind.EMBEDDING, None),
    *((UnitKind.LAYER, layer) for layer in range(NUM_LAYERS)),
    (UnitKind.FINAL_NORM, None),
)


def _unit(kind: UnitKind, layer: int | None, digest: str, size_bytes: int) -> UnitEntry:
    return UnitEntry(
        kind=kind,
        layer_index=layer,
        digest=digest,
        size_bytes=size_bytes,
        chunk_size_bytes=CHUNK_BYTES,
        chunk_digests=(_NO_DIGEST,) * -(-size_bytes // CHUNK_BYTES),
        tensors=(),
    )
