"""Tokenizers come from the object store once, checked, and are shared by concurrent requests."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from libs.common.reasons import Reason
from libs.common.testing.objectstore import MemoryObjectStore
from services.gateway.errors import TokenizerFailed
from services.gateway.fair_semaphore import MAX_WAITING_EACH
from services.gateway.text.text_models import TextModelCache
from services.gateway.text.tokenizer import TokenizerThreads
from services.gateway.text.tokenizer_files import FileStore
from tests.unit.gateway.reasons import not_served
from tests.unit.gateway.tiny import ids_of, objects_with, summary_of, tokenizer_files


def models_over(
    objects: MemoryObjectStore, folder: Path | None = None, max_cached: int = 4
) -> TextModelCache:
    return TextModelCache(FileStore(objects, folder, 2**20), TokenizerThreads(1), max_cached)


def damage_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])


async def test_a_model_is_loaded_once_for_all_who_ask() -> None:
    files = tokenizer_files()
    models = models_over(await objects_with(files))

    loaded = await asyncio.gather(*(models.get(summary_of(files)) for _ in range(5)))

    assert all(model is loaded[0] for model in loaded)
    assert loaded[0].special_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert await loaded[0].tokenizer.encode("hé", None, "tenant-1") == ids_of("hé")


async def test_the_least_recently_used_is_dropped() -> None:
    first, second = tokenizer_files("{{ 1 }}"), tokenizer_files("{{ 2 }}")
    models = models_over(
        await objects_with({**first, "other": second["chat_template.jinja"]}), max_cached=1
    )
    kept = await models.get(summary_of(first))
    await models.get(summary_of(second))

    assert await models.get(summary_of(first)) is not kept


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
        ("tokenizer.json", b"\xff\xfe", "not UTF-8"),
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


async def test_a_tenants_flood_of_prompts_delays_only_itself_and_is_refused_with_a_time() -> None:
    threads, go_on = TokenizerThreads(1), threading.Event()
    flood = [asyncio.create_task(threads.run(go_on.wait, "a")) for _ in range(MAX_WAITING_EACH + 1)]
    await asyncio.sleep(0)

    with not_served(Reason.TOKENIZER_BUSY) as caught:
        await threads.run(lambda: None, "a")
    tiny = asyncio.create_task(threads.run(lambda: sum(task.done() for task in flood), "b"))
    await asyncio.sleep(0)
    go_on.set()

    assert caught.value.status == 429 and "Retry-After" in caught.value.headers
    assert await tiny <= 2
    assert all(await asyncio.gather(*flood))
