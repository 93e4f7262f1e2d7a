"""Tokenizers come from the object store once, checked, and are shared by concurrent requests."""

import asyncio
import json
from pathlib import Path

import pytest

from libs.common.reasons import Reason
from libs.common.testing.objectstore import MemoryObjectStore
from services.gateway.errors import TokenizerFailed
from services.gateway.text.text_models import TextModelCache, size_bytes_of
from services.gateway.text.tokenizer_files import FileStore
from services.gateway.text.tokenizer_folder import TokenizerFolder
from tests.unit.gateway.reasons import not_served
from tests.unit.gateway.tiny import ids_of, objects_with, summary_of, tokenizer_files
from tests.unit.gateway.tokenizers import InProcessTokenizers


def models_over(
    objects: MemoryObjectStore, folder: Path | None = None, max_bytes: int = 2**20
) -> TextModelCache:
    kept = None if folder is None else TokenizerFolder(folder, 2**20)
    return TextModelCache(FileStore(objects, kept, 2**20), InProcessTokenizers(), max_bytes)


def damage_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])


async def test_a_model_is_loaded_once_for_all_who_ask() -> None:
    files = tokenizer_files()
    models = models_over(await objects_with(files))

    loaded = await asyncio.gather(*(models.get(summary_of(files)) for _ in range(5)))

    assert all(model is loaded[0] for model in loaded)
    assert loaded[0].special_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert tuple(await loaded[0].tokenizer.encode("hé", None, "tenant-1")) == ids_of("hé")


@pytest.mark.parametrize(("num_fitting", "is_kept"), [(1, False), (2, True)])
async def test_those_asked_for_last_are_kept_within_a_number_of_bytes(
    num_fitting: int, is_kept: bool
) -> None:
    first, second = tokenizer_files("{{ 1 }}"), tokenizer_files("{{ 2 }}")
    size_bytes = size_bytes_of(summary_of(first))
    models = models_over(
        await objects_with({**first, "other": second["chat_template.jinja"]}),
        max_bytes=num_fitting * size_bytes,
    )
    model = await models.get(summary_of(first))
    await models.get(summary_of(second))

    assert (await models.get(summary_of(first)) is model) == is_kept


async def test_a_small_file_counts_with_what_its_vocabulary_takes() -> None:
    values = json.loads(tokenizer_files()["tokenizer.json"])
    values["model"]["vocab"]["far"] = 2**18  # and so many ends of pieces before it
    far = tokenizer_files("{{ 1 }}") | {"tokenizer.json": json.dumps(values).encode()}
    other = tokenizer_files("{{ 2 }}")
    objects = await objects_with({**far, "other": other["tokenizer.json"], "2": b"{{ 2 }}"})
    models = models_over(objects, max_bytes=2**20)
    model = await models.get(summary_of(far))

    await models.get(summary_of(other))

    assert await models.get(summary_of(far)) is not model


async def test_one_that_is_larger_than_the_cache_is_loaded_all_the_same() -> None:
    files = tokenizer_files()
    models = models_over(await objects_with(files), max_bytes=1)

    assert await models.get(summary_of(files)) is await models.get(summary_of(files))


async def test_more_small_ones_than_any_number_are_kept() -> None:
    all_files = [tokenizer_files(f"{{{{ {number} }}}}") for number in range(20)]
    others = {str(n): files["chat_template.jinja"] for n, files in enumerate(all_files)}
    models = models_over(await objects_with({**all_files[0], **others}))
    loaded = [await models.get(summary_of(files)) for files in all_files]

    assert [await models.get(summary_of(files)) for files in all_files] == loaded


async def test_files_on_disk_serve_while_the_object_store_is_down(tmp_path: Path) -> None:
    files = tokenizer_files()
    objects = await objects_with(files)
    await models_over(objects, tmp_path).get(summary_of(files))
    objects.is_down = True

    assert await models_over(objects, tmp_path).get(summary_of(files))


async def test_a_damaged_file_on_disk_is_fetched_again(tmp_path: Path) -> None:
    files = tokenizer_files()
    objects = await objects_with(files)
    await models_over(objects, tmp_path).get(summary_of(files))
    damage_all(tmp_path)

    assert await models_over(objects, tmp_path).get(summary_of(files))


async def test_an_object_store_that_is_down_is_503_and_the_next_request_tries_again() -> None:
    files = tokenizer_files()
    objects = await objects_with(files)
    objects.is_down = True
    models = models_over(objects)
    with not_served(Reason.OBJECT_STORE_UNAVAILABLE):
        await models.get(summary_of(files))

    objects.is_down = False

    assert await models.get(summary_of(files))


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("tokenizer.json", b"not json", "tokenizer failed"),
        ("tokenizer.json", b'{"model": {"type": "BPE"}}', "tokenizer failed"),
        ("tokenizer.json", b"\xff\xfe", "tokenizer failed"),
        ("chat_template.jinja", b"\xff\xfe", "not UTF-8"),
        ("tokenizer_config.json", b"[" * 100_000, "not JSON"),
        ("tokenizer_config.json", b"[]", "not an object"),
        ("tokenizer.json", b"x" * (2**20 + 1), "the limit is"),
    ],
)
async def test_files_that_are_not_what_they_should_be_fail_with_a_cause(
    name: str, content: bytes, cause: str
) -> None:
    files = {**tokenizer_files(), name: content}
    models = models_over(await objects_with(files))

    with pytest.raises(TokenizerFailed, match=cause):
        await models.get(summary_of(files))


async def test_a_template_may_stand_in_the_configuration_alone_or_among_others() -> None:
    named = [{"name": "tool", "template": "x"}, {"name": "default", "template": "{{ 1 }}"}]
    for template in ("{{ 1 }}", named):
        config = json.dumps({"chat_template": template}).encode()
        files = {
            "tokenizer.json": tokenizer_files()["tokenizer.json"],
            "tokenizer_config.json": config,
        }

        model = await models_over(await objects_with(files)).get(summary_of(files))

        assert model.chat_template == "{{ 1 }}"
