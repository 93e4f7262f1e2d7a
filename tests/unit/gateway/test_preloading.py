"""Tokenizers are there before anybody asks."""

from services.gateway.text.models import TextModels
from services.gateway.text.preloading import Preloading
from services.gateway.text.tokenizer import TokenizerThreads
from services.gateway.text.tokenizer_files import FileStore
from tests.unit.gateway.tiny import objects_with, summary_of, tokenizer_files

FIRST, SECOND = tokenizer_files("{{ 1 }}"), tokenizer_files("{{ 2 }}")


async def test_models_that_can_be_asked_are_loaded_once_also_those_that_come_later() -> None:
    objects = await objects_with({**FIRST, "other": SECOND["chat_template.jinja"]})
    texts = TextModels(FileStore(objects, None, 2**20), TokenizerThreads(1), 4)
    ready = [summary_of(FIRST)]
    preloading = Preloading(lambda: ready, texts, 4)

    await preloading.load_new()
    ready.append(summary_of(SECOND))
    await preloading.load_new()

    objects.is_down = True
    assert await texts.get(summary_of(FIRST)) and await texts.get(summary_of(SECOND))


async def test_none_in_use_gives_way_to_one_that_nobody_has_asked_for() -> None:
    objects = await objects_with({**FIRST, "other": SECOND["chat_template.jinja"]})
    texts = TextModels(FileStore(objects, None, 2**20), TokenizerThreads(1), 1)

    await Preloading(lambda: [summary_of(FIRST), summary_of(SECOND)], texts, 1).load_new()

    objects.is_down = True
    assert await texts.get(summary_of(FIRST))


async def test_an_object_store_that_is_down_leaves_the_loading_to_the_first_request() -> None:
    objects = await objects_with(FIRST)
    texts = TextModels(FileStore(objects, None, 2**20), TokenizerThreads(1), 4)
    objects.is_down = True

    await Preloading(lambda: [summary_of(FIRST)], texts, 4).load_new()

    objects.is_down = False
    assert await texts.get(summary_of(FIRST))
