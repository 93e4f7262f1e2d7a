"""Tokenizers in processes of their own: the library's ids and texts, and nobody's harm."""

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import decoders, models

from libs.common.reasons import Reason
from services.gateway.errors import TokenizerFailed, TokenizerOverrun
from services.gateway.text import tokenizer_pool
from services.gateway.text.control_token_guard import ControlTokenGuard
from services.gateway.text.tokenizer import Tokenizer
from services.gateway.text.tokenizer_pool import TokenizerPool, TokenizerSource
from tests.unit.common.tokenizers.files import byte_fallback, byte_level, replace, split, words
from tests.unit.gateway.reasons import not_served
from tests.unit.gateway.tiny import TENANT
from tests.unit.gateway.tokenizers import InProcessTokenizers

KINDS = {"byte level": byte_level(), "byte fallback": byte_fallback(), "words": words()}
PIECES = (
    *(
        "<unk>",
        "<s>",
        "\u2581the",
        "cat",
        "s",
        "\u2581",
        "\u2581\u2581",
        "\u65e5",
        "\U0001f999",
        ".",
    ),
    *(".", " ", "  x", "n't", "##ing", "b</w>", "\u0120", "\u0120a", "\u00e9", "\u010a", ""),
)
VOCABULARY = {piece: n for n, piece in enumerate((*PIECES, *(f"<0x{n:02X}>" for n in range(256))))}
MODELS: dict[str, models.Model] = {
    "BPE": models.BPE(vocab=VOCABULARY, merges=[], unk_token="<unk>", byte_fallback=True),
    "Unigram": models.Unigram([(p, -1.0) for p in VOCABULARY if p], unk_id=0, byte_fallback=True),
    "WordLevel": models.WordLevel(VOCABULARY, unk_token="<unk>"),
    "WordPiece": models.WordPiece(VOCABULARY, unk_token="<unk>"),
}
FALLBACK = (decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse())
DECODERS: dict[str, decoders.Decoder | None] = {
    "none": None,
    "byte level, as GPT-2, Llama 3, Falcon": decoders.ByteLevel(),
    "byte fallback, as Llama 2": decoders.Sequence([*FALLBACK, decoders.Strip(" ", 1, 0)]),
    "byte fallback, as Gemma": decoders.Sequence([*FALLBACK]),
    "Metaspace": decoders.Metaspace(),
    "Metaspace without a first space": decoders.Metaspace(prepend_scheme="never"),
    "WordPiece with its clean-up": decoders.WordPiece(),
    "ends of words": decoders.BPEDecoder("</w>"),
    "CTC": decoders.CTC(pad_token="<unk>", word_delimiter_token="\u2581"),
}
# Every split of a run of letters is tried before the last one fails.
ENDLESS = byte_level(pre_tokenizer=split("(a+)+b"))


def source_of(values: dict[str, Any]) -> TokenizerSource:
    data = json.dumps(values).encode()
    return TokenizerSource(str(hash(data)), data)


def library_of(values: dict[str, Any]) -> LibraryTokenizer:
    return LibraryTokenizer.from_str(json.dumps(values))


def with_added_tokens(model: models.Model, decoder: decoders.Decoder | None) -> LibraryTokenizer:
    """Special ones and others, new ones and such as the model has."""
    library = LibraryTokenizer(model)
    if decoder is not None:
        library.decoder = decoder
    library.add_special_tokens(["<s>", "<|im_end|>"])
    library.add_tokens(["\u2581two words", "\u65e5\u672c x", "  ", "cat", "<tool>"])
    return LibraryTokenizer.from_str(library.to_str())


@cache
def library_and_ours(model: str, decoder: str) -> tuple[LibraryTokenizer, Tokenizer]:
    library = with_added_tokens(MODELS[model], DECODERS[decoder])
    source = source_of(json.loads(library.to_str()))
    return library, asyncio.run(Tokenizer.load(source, InProcessTokenizers()))


def ids_of(values: dict[str, Any], text: str) -> tuple[int, ...]:
    return tuple(library_of(values).encode(text, add_special_tokens=False).ids)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[TokenizerPool]:
    async with TokenizerPool(1, 2**20) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS)
async def test_ids_are_those_of_the_library(pool: TokenizerPool, kind: str) -> None:
    tokenizer = await Tokenizer.load(source_of(KINDS[kind]), pool)

    for text in ("", "hello", "hé  日本 <|end|> <s>"):
        assert tuple(await tokenizer.encode(text, None, TENANT)) == ids_of(KINDS[kind], text)


async def test_what_is_quoted_is_no_special_token(pool: TokenizerPool) -> None:
    tokenizer = await Tokenizer.load(source_of(byte_level()), pool)
    guard = ControlTokenGuard("\ufdd0", "\ufdd1", ("<|end|>",))

    ids = await tokenizer.encode("h\ufdd0<|end|>\ufdd1<|end|>", guard, TENANT)

    (end_id,) = ids_of(byte_level(), "<|end|>")
    assert ids[-1] == end_id and ids.count(end_id) == 1 and len(ids) == 9
    assert tuple(await tokenizer.encode("<|end|>", None, TENANT)) == (end_id,), (
        "the next one is plain"
    )


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
def test_texts_are_those_of_the_library(model: str, decoder: str, data: st.DataObject) -> None:
    library, tokenizer = library_and_ours(model, decoder)
    frequent, num_ids = st.integers(0, len(PIECES)), library.get_vocab_size()
    ids = data.draw(st.lists(frequent | st.integers(0, num_ids + 1), max_size=8))

    assert tokenizer.decode(ids) == library.decode(ids)


async def test_a_process_that_was_killed_is_replaced_and_loads_again(pool: TokenizerPool) -> None:
    tokenizer = await Tokenizer.load(source_of(byte_level()), pool)
    (pid,) = await pool.pids()
    os.kill(pid, signal.SIGKILL)

    assert tuple(await tokenizer.encode("hello", None, TENANT)) == ids_of(byte_level(), "hello")
    assert await pool.pids() != [pid]


async def test_one_that_gave_way_in_the_process_is_loaded_again() -> None:
    async with TokenizerPool(1, 1) as pool:
        first = await Tokenizer.load(source_of(byte_level()), pool)
        await Tokenizer.load(source_of(byte_fallback()), pool)

        assert tuple(await first.encode("hello", None, TENANT)) == ids_of(byte_level(), "hello")


async def test_one_that_never_ends_is_ended_apart_from_tokenizers_of_known_kinds(
    pool: TokenizerPool,
) -> None:
    endless = await Tokenizer.load(source_of(ENDLESS), pool)
    known = await Tokenizer.load(source_of(byte_level()), pool)
    (pid,) = await pool.pids()

    with pytest.raises(TokenizerFailed, match=r"CPU time|panicked"):
        await endless.encode("a" * 60, None, TENANT)

    assert known.facts.is_vetted and not endless.facts.is_vetted
    assert await pool.pids() == [pid]


# Every letter is tried as the beginning of a match, and the end is looked for from each.
SQUARE = byte_level(pre_tokenizer=split("a+b"))


@pytest.mark.parametrize(
    ("values", "text", "why"),
    [
        (byte_level(), "hello " * 2**18, "the text is long"),
        (SQUARE, "a" * 30_000, "the tokenizer is slow, as its first text showed"),
    ],
)
async def test_what_takes_long_leaves_a_process_to_what_does_not(
    values: dict[str, Any], text: str, why: str
) -> None:
    async with TokenizerPool(2, 2**20) as pool:
        await pool.pids()
        quick = await Tokenizer.load(source_of(byte_level()), pool)
        long = await Tokenizer.load(source_of(values), pool)
        assert long.facts.is_vetted
        if len(text) < tokenizer_pool.LONG_CHARS:
            await long.encode(text, None, "other")
        running = [asyncio.create_task(long.encode(text, None, "other")) for _ in range(2)]
        await asyncio.sleep(0.05)

        await quick.encode("hello", None, TENANT)

        assert not any(task.done() for task in running), why
        await asyncio.gather(*running)


async def test_one_without_a_common_letter_is_loaded_all_the_same(pool: TokenizerPool) -> None:
    lacking = words(model={"type": "WordLevel", "vocab": {"he": 0}, "unk_token": "[UNK]"})

    tokenizer = await Tokenizer.load(source_of(lacking), pool)

    assert tuple(await tokenizer.encode("he", None, TENANT)) == (0,)


async def test_a_prompt_that_takes_more_memory_than_there_is_is_the_requests_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenizer_pool, "_WORKING_BYTES", 2**28)
    async with TokenizerPool(1, 2**20) as pool:
        tokenizer = await Tokenizer.load(source_of(byte_level()), pool)

        with pytest.raises(TokenizerOverrun):
            await tokenizer.encode("a" * 2**22, None, TENANT)

        assert await tokenizer.encode("hello", None, TENANT), "the next one is encoded"


@pytest.mark.long
async def test_neither_loading_nor_encoding_stops_the_loop(pool: TokenizerPool) -> None:
    """Beside it: what loading the same tokenizer in this process takes, all of it a stop."""
    letters = "".join(chr(0x4E00 + n) for n in range(400))
    many = {a + b: n for n, (a, b) in enumerate(itertools.product(letters, letters))}
    large = byte_level(model={"type": "BPE", "vocab": many, "merges": []})
    data = json.dumps(large).encode()
    began_s = time.monotonic()
    LibraryTokenizer.from_str(data.decode())
    reference_s = time.monotonic() - began_s

    async with measured_gaps() as gaps_s:
        tokenizer = await Tokenizer.load(TokenizerSource("large", data), pool)
        await tokenizer.encode("hé " * 2**18, None, TENANT)

    assert max(gaps_s) < reference_s / 2


@asynccontextmanager
async def measured_gaps() -> AsyncIterator[list[float]]:
    """How long the loop did nothing else, each time that it slept a millisecond."""
    gaps_s: list[float] = []

    async def tick() -> None:
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(0.001)
            gaps_s.append(time.monotonic() - began_s)

    ticking = asyncio.create_task(tick())
    yield gaps_s
    ticking.cancel()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (json.dumps(byte_level(normalizer=replace("a", "a" * 200))).encode(), "refused: its norm"),
        (json.dumps(byte_level(decoder={"type": "Novel"})).encode(), "refused: its decoder"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "not an object"),
        (b"{}", "failed"),
    ],
)
async def test_a_harmful_or_broken_file_fails_with_its_cause(
    pool: TokenizerPool, data: bytes, cause: str
) -> None:
    with pytest.raises(TokenizerFailed, match=cause):
        await pool.load(TokenizerSource("bad", data))

    assert await pool.load(source_of(byte_level())), "the next one is loaded"


async def test_where_its_process_is_killed_again_and_again_the_client_is_to_come_again() -> None:
    """As the system does without memory. It is neither the prompt's fault nor the tokenizer's."""
    async with TokenizerPool(1, 2**20) as pool:
        tokenizer = await Tokenizer.load(source_of(byte_level()), pool)
        killing = asyncio.create_task(kill_all(pool))

        with not_served(Reason.TOKENIZER_BUSY, match="cannot be tokenized now"):
            await tokenizer.encode("hello " * 2**18, None, TENANT)

        killing.cancel()


async def kill_all(pool: TokenizerPool) -> None:
    while True:
        for pid in await pool.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.02)
