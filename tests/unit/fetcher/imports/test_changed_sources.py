"""A source that somebody writes to while it is imported never becomes a model."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.fetcher.errors import ImportRefused
from services.fetcher.imports.importer import ImportProgress
from services.fetcher.imports.source import opened_file, opened_folder
from tests.unit.fetcher.imports.checkpoints import TinyCheckpoint
from tests.unit.fetcher.imports.importworld import ImportWorld

WEIGHTS = "model.safetensors"


@pytest.fixture
def world(tmp_path: Path) -> ImportWorld:
    return ImportWorld(tmp_path)


def rewrite_in_place(path: Path) -> None:
    """Other bytes, equal size, and the time of the last change set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(b"\x01" * 64)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_rename(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes())
    new.rename(path)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4)


def remove(path: Path) -> None:
    path.unlink()


CHANGES = [rewrite_in_place, replace_by_rename, truncate, remove]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("num_units_done", [0, 1, 4])
async def test_weights_that_change_between_two_units_fail_the_import_by_name(
    world: ImportWorld, change: Callable[[Path], None], num_units_done: int
) -> None:
    TinyCheckpoint().write(world.source)
    changing_after(world, num_units_done, lambda: change(world.source / WEIGHTS))

    with pytest.raises(ImportRefused, match=WEIGHTS) as caught:
        await world.run()

    assert caught.value.code == "source_changed"
    assert "register the model again" in str(caught.value)
    assert await world.store.list_keys("manifests/") == ()


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
async def test_a_small_file_that_changes_fails_the_import_too(
    world: ImportWorld, name: str
) -> None:
    TinyCheckpoint(generation_config={"eos_token_id": 2}).write(world.source)
    changing_after(world, 2, lambda: os.utime(world.source / name))

    with pytest.raises(ImportRefused, match=name) as caught:
        await world.run()

    assert caught.value.code == "source_changed"


async def test_the_other_of_two_files_is_looked_at_again_at_the_end(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source, num_shards=2)
    first, second = sorted(path.name for path in world.source.glob("*.safetensors"))
    changing_after(world, 3, lambda: rewrite_in_place(world.source / first))

    with pytest.raises(ImportRefused, match=f"{first}|{second}") as caught:
        await world.run()

    assert caught.value.code == "source_changed"


async def test_after_the_last_change_the_same_source_is_imported(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)
    changing_after(world, 1, lambda: rewrite_in_place(world.source / WEIGHTS))
    with pytest.raises(ImportRefused):
        await world.run()
    world.report = lambda _progress: None

    assert (await world.run()).manifest.num_layers == 2


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_right_after_the_file_was_opened_is_noticed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """File systems keep times in steps of a few milliseconds."""
    path = tmp_path / "weights"
    path.write_bytes(bytes(4096))
    with opened_file(path, [tmp_path]) as file:
        change(path)

        with pytest.raises(ImportRefused, match="weights was changed") as caught:
            file.require_unchanged()

    assert caught.value.code == "source_changed"


def test_reading_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(4096))
    with opened_folder(tmp_path, [tmp_path]) as folder:
        folder.open("weights").read(0, 4096)

        folder.require_unchanged()


def changing_after(world: ImportWorld, num_units: int, change: Callable[[], None]) -> None:
    """`change` when so many units have been stored."""
    reports: list[ImportProgress] = []

    def report(progress: ImportProgress) -> None:
        reports.append(progress)
        if len(reports) == num_units + 1:
            change()

    world.report = report
