"""Tokenizers in processes of their own: the library's ids and texts, and nobody's harm."""

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer

from services.gateway.errors import TokenizerFailed, TokenizerOverrun
from services.gateway.text import tokenizer_pool
from services.gateway.text.control_token_guard import ControlTokenGuard
from services.gateway.text.tokenizer import Tokenizer
from services.gateway.text.tokenizer_pool import TokenizerPool, TokenizerSource
from tests.unit.common.tokenizers.files import byte_fallback, byte_level, replace, split, words
from tests.unit.gateway.tiny import TENANT
from tests.unit.gateway.tokenizers import InProcessTokenizers

KINDS = {"byte level": byte_level(), "byte fallback": byte_fallback(), "words": words()}
# Every split of a run of letters is tried before the last one fails.
ENDLESS = byte_level(pre_tokenizer=split("(a+)+b"))


def source_of(values: dict[str, Any]) -> TokenizerSource:
    data = json.dumps(values).encode()
    return TokenizerSource(str(hash(data)), data)


def library_of(values: dict[str, Any]) -> LibraryTokenizer:
    return LibraryTokenizer.from_str(json.dumps(values))


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


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_texts_are_those_of_the_library(kind: str, data: st.DataObject) -> None:
    library = library_of(KINDS[kind])
    tokenizer = asyncio.run(Tokenizer.load(source_of(KINDS[kind]), InProcessTokenizers()))
    ids = data.draw(st.lists(st.integers(0, library.get_vocab_size() + 1), max_size=8))

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
