"""Text that comes in pieces is the text that comes at once."""

from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from services.gateway.text.detokenizer import Detokenizer
from services.gateway.text.token_bytes import token_bytes
from tests.unit.gateway.tiny import END_ID, TOKENIZER, ids_of


def sentencepiece_like() -> Tokenizer:
    """Words that carry their space in front, byte fallback, a stripped first space."""
    words = ["<unk>", "▁the", "▁cat", "s", "▁", "▁é", "sat"]
    vocab = [(word, 0.0) for word in words] + [(f"<0x{n:02X}>", 0.0) for n in range(256)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1),
        ]
    )
    return tokenizer


PIECES = sentencepiece_like()
# Half of them begin or continue a character, so that broken ones are common.
BYTES = st.sampled_from([ids_of(c)[n] for c in ("é", "€", "🦙") for n in (0, -1)]) | st.integers(
    0, 255
)
NO_SURROGATES: tuple[Literal["Cs"], ...] = ("Cs",)
TEXT = st.text(st.characters(exclude_categories=NO_SURROGATES), max_size=30)


def piece_id(piece: str) -> int:
    token_id = PIECES.token_to_id(piece)
    assert token_id is not None, piece
    return token_id


def decode_bytes(ids: Sequence[int]) -> str:
    return TOKENIZER.decode(list(ids), skip_special_tokens=True)


def decode_pieces(ids: Sequence[int]) -> str:
    return PIECES.decode(list(ids), skip_special_tokens=True)


@settings(deadline=None)
@given(TEXT)
def test_any_text_comes_out_whole(text: str) -> None:
    subject = Detokenizer(decode_bytes)

    pieces = [subject.push(token_id) for token_id in ids_of(text)]

    assert "".join(pieces) + subject.flush() == text


@settings(deadline=None, max_examples=500)
@given(st.lists(BYTES, max_size=60))
def test_any_bytes_come_out_as_decoding_them_at_once_would(ids: list[int]) -> None:
    subject = Detokenizer(decode_bytes)

    pieces = [subject.push(token_id) for token_id in ids]

    assert "".join(pieces) + subject.flush() == decode_bytes(ids)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["▁the", "▁cat", "s", "▁", "▁é", "sat"]), max_size=12))
def test_spaces_that_belong_to_words_are_kept_but_the_first(words: list[str]) -> None:
    ids = [piece_id(word) for word in words]
    subject = Detokenizer(decode_pieces)

    pieces = [subject.push(token_id) for token_id in ids]

    assert "".join(pieces) + subject.flush() == decode_pieces(ids)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("🦙", "four bytes"),
        ("日本語", "three bytes each"),
        ("é", "two bytes"),
        ("👩‍👩‍👧", "joined"),
    ],
)
def test_no_part_of_a_character_is_ever_shown(text: str, why: str) -> None:
    subject = Detokenizer(decode_bytes)

    pieces = [subject.push(token_id) for token_id in ids_of(text)]

    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces), why
    assert "".join(pieces) == text, why


def test_byte_fallback_characters_are_held_until_they_are_whole() -> None:
    ids = [piece_id(f"<0x{byte:02X}>") for byte in "🦙".encode()]
    subject = Detokenizer(decode_pieces)

    assert [subject.push(token_id) for token_id in ids] == ["", "", "", "🦙"]


def test_special_tokens_leave_no_trace() -> None:
    subject = Detokenizer(decode_bytes)

    pieces = [subject.push(token_id) for token_id in (*ids_of("a"), END_ID, *ids_of("b"))]

    assert "".join(pieces) == "ab"


def test_an_unfinished_character_shows_at_the_end() -> None:
    subject = Detokenizer(decode_bytes)

    assert [subject.push(i) for i in ids_of("a") + ids_of("é")[:1]] == ["a", ""]
    assert subject.flush() == "\N{REPLACEMENT CHARACTER}"


def test_text_without_any_character_is_not_held_for_ever() -> None:
    broken = ids_of("é")[:1] * 100
    subject = Detokenizer(decode_bytes)

    assert any(subject.push(token_id) for token_id in broken)


@settings(deadline=None)
@given(TEXT)
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(text: str) -> None:
    pieces = [TOKENIZER.id_to_token(token_id) or "" for token_id in ids_of(text)]

    assert b"".join(token_bytes(p, "?", is_byte_level=True) for p in pieces) == text.encode()


@pytest.mark.parametrize(
    ("piece", "text", "data"),
    [
        ("<0xE2>", "\N{REPLACEMENT CHARACTER}", b"\xe2"),
        ("▁the", " the", b" the"),
        ("<s>", "<s>", b"<s>"),
    ],
)
def test_tokens_of_other_vocabularies_have_bytes_too(piece: str, text: str, data: bytes) -> None:
    assert token_bytes(piece, text, is_byte_level=False) == data
