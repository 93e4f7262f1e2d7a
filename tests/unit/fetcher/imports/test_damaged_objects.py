"""What is stored already is relied on only where its bytes are right, and replaced elsewhere."""

from pathlib import Path

import pytest
from blake3 import blake3

from libs.common.weights.manifest import manifest_key
from services.fetcher.imports.importer import ImportedModel
from tests.unit.fetcher.imports.checkpoints import TinyCheckpoint
from tests.unit.fetcher.imports.importworld import ImportWorld


@pytest.fixture
def world(tmp_path: Path) -> ImportWorld:
    world = ImportWorld(tmp_path)
    TinyCheckpoint(template="{{ messages }}").write(world.source)
    return world


def keys_of(imported: ImportedModel) -> list[str]:
    manifest = imported.manifest
    return [
        *(unit.key for unit in manifest.units),
        *(file.key for file in manifest.tokenizer_files),
        manifest_key(imported.manifest_digest),
    ]


async def flip_byte(world: ImportWorld, key: str) -> None:
    """Equal size, and metadata that still declare the right digest."""
    data = bytearray(await world.store.get(key, max_bytes=1 << 20))
    data[len(data) // 2] ^= 1
    await world.store.put_bytes(key, bytes(data), digest=key.rpartition("/")[2])


async def test_every_damaged_object_is_written_again_by_the_next_import(
    world: ImportWorld,
) -> None:
    first = await world.run()
    for key in keys_of(first):
        await flip_byte(world, key)

    second = await world.run()

    assert second.manifest_digest == first.manifest_digest
    assert second.num_units_sent == len(first.manifest.units)
    for key in keys_of(first):
        data = await world.store.get(key, max_bytes=1 << 20)
        assert key.endswith(blake3(data).hexdigest())


async def test_only_the_damaged_object_is_written_again(world: ImportWorld) -> None:
    first = await world.run()
    await flip_byte(world, first.manifest.units[1].key)
    num_puts = world.store.num_puts

    second = await world.run()

    assert second.num_units_sent == 1
    assert world.store.num_puts == num_puts + 1


async def test_a_truncated_object_is_written_again(world: ImportWorld) -> None:
    first = await world.run()
    unit = first.manifest.units[0]
    await world.store.put_bytes(unit.key, b"short", digest=unit.digest)

    assert (await world.run()).num_units_sent == 1
