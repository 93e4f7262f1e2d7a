"""Tokenizers are there before anybody asks."""

from pathlib import Path

import pytest

from libs.common.bus.messages import ModelSummary
from libs.common.reasons import Reason
from services.gateway.text.text_models import TextModel, TextModelCache, size_bytes_of
from services.gateway.text.tokenizer_files import FileStore
from services.gateway.text.tokenizer_folder import TokenizerFolder
from services.gateway.text.tokenizer_preloader import TokenizerPreloader
from tests.unit.gateway.reasons import not_served
from tests.unit.gateway.tiny import objects_with, summary_of, tokenizer_files
from tests.unit.gateway.tokenizers import InProcessTokenizers

SIZE_BYTES = size_bytes_of(summary_of(tokenizer_files("{{ 1 }}")))
FIRST, SECOND = tokenizer_files("{{ 1 }}"), tokenizer_files("{{ 2 }}")


async def test_models_that_can_be_asked_are_loaded_once_also_those_that_come_later() -> None:
    objects = await objects_with({**FIRST, "other": SECOND["chat_template.jinja"]})
    texts = TextModelCache(FileStore(objects, None, 2**20), InProcessTokenizers(), 2**20)
    ready = [summary_of(FIRST)]
    ahead = TokenizerPreloader(lambda: ready, texts, 2**20)

    await ahead.load_new()
    ready.append(summary_of(SECOND))
    await ahead.load_new()

    objects.is_down = True
    assert await texts.get(summary_of(FIRST)) and await texts.get(summary_of(SECOND))


async def test_no_tokenizer_in_use_is_dropped_for_one_that_nobody_has_asked_for() -> None:
    objects = await objects_with({**FIRST, "other": SECOND["chat_template.jinja"]})
    texts = TextModelCache(FileStore(objects, None, 2**20), InProcessTokenizers(), SIZE_BYTES)

    await TokenizerPreloader(
        lambda: [summary_of(FIRST), summary_of(SECOND)], texts, SIZE_BYTES
    ).load_new()

    objects.is_down = True
    assert await texts.get(summary_of(FIRST))


async def test_an_object_store_that_is_down_leaves_the_loading_to_the_first_request() -> None:
    objects = await objects_with(FIRST)
    texts = TextModelCache(FileStore(objects, None, 2**20), InProcessTokenizers(), 2**20)
    objects.is_down = True

    await TokenizerPreloader(lambda: [summary_of(FIRST)], texts, 2**20).load_new()

    objects.is_down = False
    assert await texts.get(summary_of(FIRST))


async def test_a_model_that_is_gone_makes_room_for_the_next() -> None:
    objects = await objects_with({**FIRST, "other": SECOND["chat_template.jinja"]})
    texts = TextModelCache(FileStore(objects, None, 2**20), InProcessTokenizers(), SIZE_BYTES)
    ready = [summary_of(FIRST)]
    ahead = TokenizerPreloader(lambda: ready, texts, SIZE_BYTES)
    await ahead.load_new()

    ready[:] = [summary_of(SECOND)]
    await ahead.load_new()

    objects.is_down = True
    assert await texts.get(summary_of(SECOND))


async def test_large_tokenizers_are_left_to_who_asks() -> None:
    objects = await objects_with(FIRST)
    texts = TextModelCache(FileStore(objects, None, 2**20), InProcessTokenizers(), 2**20)

    await TokenizerPreloader(lambda: [summary_of(FIRST)], texts, SIZE_BYTES - 1).load_new()

    objects.is_down = True
    with not_served(Reason.OBJECT_STORE_UNAVAILABLE):
        await texts.get(summary_of(FIRST))


async def test_whatever_a_model_does_to_its_loading_stays_with_that_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = await objects_with({**FIRST, "other": SECOND["chat_template.jinja"]})
    texts = TextModelCache(FileStore(objects, None, 2**20), InProcessTokenizers(), 2**20)
    get = texts.get

    async def get_second(summary: ModelSummary) -> TextModel:
        if summary == summary_of(FIRST):
            raise TypeError("unhashable")
        return await get(summary)

    monkeypatch.setattr(texts, "get", get_second)

    await TokenizerPreloader(
        lambda: [summary_of(FIRST), summary_of(SECOND)], texts, 2**20
    ).load_new()

    objects.is_down = True
    assert await get(summary_of(SECOND))


async def test_a_cache_folder_that_cannot_be_used_costs_no_request(tmp_path: Path) -> None:
    objects = await objects_with(FIRST)
    in_the_way = tmp_path / "tokenizers"
    in_the_way.write_text("a file, not a folder")
    texts = TextModelCache(
        FileStore(objects, TokenizerFolder(in_the_way, 2**20), 2**20), InProcessTokenizers(), 2**20
    )

    assert await texts.get(summary_of(FIRST))
