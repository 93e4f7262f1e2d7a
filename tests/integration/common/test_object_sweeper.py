"""Sweeping the object store takes what no model needs, and nothing from an import."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
import pytest_asyncio

from deploy.bootstrap.object_sweeper import PREFIXES, ImportUnderWay, ObjectSweeper
from libs.common.errors import ObjectMissing
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.manifest import FileEntry, Manifest, UnitEntry, UnitKind, manifest_key
from libs.common.weights.manifest_json import encode_manifest, manifest_digest
from tests.integration.servers import TestDatabase

_ADD_MODEL = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints, manifest_digest)
VALUES ($1, 't', $1, '/x', $2, 1, 1, 1, 1, 1, 1, 1, $3)
"""


@dataclass(frozen=True)
class SweepWorld:
    connection: "asyncpg.Connection[asyncpg.Record]"
    store: MemoryObjectStore

    async def add_model(self, name: str, units: str, state: str = "READY") -> str:
        """A model with one unit per letter; its manifest's key."""
        manifest = _manifest(name, units)
        data = encode_manifest(manifest)
        digest = manifest_digest(data)
        for key in (*(u.key for u in manifest.units), *(f.key for f in manifest.tokenizer_files)):
            await self.store.put_bytes(key, key.encode(), digest="")
        await self.store.put_bytes(manifest_key(digest), data, digest=digest)
        await self.connection.execute(
            "INSERT INTO manifests (digest, summary) VALUES ($1, '{}')", digest
        )
        await self.connection.execute(_ADD_MODEL, name, state, digest)
        return manifest_key(digest)

    async def keys(self) -> set[str]:
        return {key for prefix in PREFIXES for key in await self.store.list_keys(prefix)}

    def sweeper(self, *, is_dry_run: bool = False) -> ObjectSweeper:
        return ObjectSweeper(self.connection, self.store, is_dry_run)


def _manifest(name: str, units: str) -> Manifest:
    kinds = [UnitKind.EMBEDDING, *[UnitKind.LAYER] * (len(units) - 2), UnitKind.FINAL_NORM]
    return Manifest(
        architecture="LlamaForCausalLM",
        config_json="{}",
        dtype="F32",
        max_context_tokens=8,
        vocab_size=8,
        bos_token_id=None,
        eos_token_ids=(),
        kv_bytes_per_token=8,
        tokenizer_files=(FileEntry("tokenizer.json", (name[0] * 64), 4),),
        units=tuple(
            UnitEntry(
                kind=kind,
                layer_index=index - 1 if kind is UnitKind.LAYER else None,
                digest=letter * 64,
                size_bytes=8,
                chunk_size_bytes=4096,
                chunk_digests=(letter * 64,),
                tensors=(),
            )
            for index, (letter, kind) in enumerate(zip(units, kinds, strict=True))
        ),
    )


@pytest_asyncio.fixture
async def world(database: TestDatabase) -> AsyncIterator[SweepWorld]:
    connection = await asyncpg.connect(database.owner.url, password=database.owner.password)
    yield SweepWorld(connection, MemoryObjectStore())
    await connection.close()


async def test_what_no_model_needs_goes_and_what_one_shares_stays(world: SweepWorld) -> None:
    await world.add_model("a-kept", "123")
    await world.add_model("b-being-deleted", "145", state="DELETING")
    kept = await world.keys()
    gone = await world.add_model("c-gone", "126")
    await world.connection.execute("DELETE FROM models WHERE id = 'c-gone'")
    orphans = {gone, f"units/{'6' * 64}", f"tokenizers/{'c' * 64}"}

    looked = await world.sweeper(is_dry_run=True).sweep()
    assert set(looked.orphans) == orphans and looked.num_deleted == 0
    assert looked.num_bytes > 0 and looked.num_kept == len(kept)
    assert await world.keys() == kept | orphans

    swept = await world.sweeper().sweep()
    assert swept.num_deleted == len(orphans)
    assert await world.keys() == kept


async def test_nothing_goes_while_an_import_is_under_way(world: SweepWorld) -> None:
    await world.add_model("a", "123")
    await world.store.put_bytes(f"units/{'9' * 64}", b"x", digest="")
    await world.connection.execute(_ADD_MODEL, "new", "IMPORTING", None)
    before = await world.keys()

    with pytest.raises(ImportUnderWay):
        await world.sweeper().sweep()

    assert await world.keys() == before


async def test_nothing_goes_while_it_is_not_known_what_a_model_needs(world: SweepWorld) -> None:
    key = await world.add_model("a", "123")
    await world.store.delete(key)
    before = await world.keys()

    with pytest.raises(ObjectMissing):
        await world.sweeper().sweep()

    assert await world.keys() == before
