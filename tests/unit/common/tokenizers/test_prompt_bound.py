"""No text that could fit a context has more characters than the bound says."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from libs.common.tokenizers.prompt_bound import PromptBound, num_counted, prompt_bound
from tests.unit.common.tokenizers.files import (
    byte_fallback,
    byte_level,
    replace,
    sequence,
    split,
    words,
)

LSTRIP = [{"id": 0, "content": "<m>", "lstrip": True}]


@pytest.mark.parametrize(
    ("values", "bound", "why"),
    [
        (byte_level(), len("<|end|>"), "an added token is the longest"),
        (byte_fallback(), len("<0x00>"), "as long as the longest piece"),
        (byte_level(normalizer={"type": "NFC"}), 4 * len("<|end|>"), "NFC composes characters"),
        (byte_level(normalizer=replace("ab", "c")), 2 * len("<|end|>"), "two become one"),
        (byte_level(normalizer=replace("a", "")), None, "any number is dropped"),
        (byte_level(normalizer=replace(" +", " ", "Regex")), None, "any number becomes one"),
        (byte_level(normalizer={"type": "StripAccents"}), None, "any number is dropped"),
        (byte_level(pre_tokenizer={"type": "Whitespace"}), None, "any number is dropped"),
        (byte_level(pre_tokenizer=split(" ", "removed")), None, "any number is dropped"),
        (byte_level(added_tokens=LSTRIP), None, "it takes any number of spaces"),
        (byte_level(model={"type": "BPE", "vocab": {"a": 0}}), None, "the unknown is dropped"),
        (words(), None, "a word of any length may be unknown"),
    ],
)
def test_it_is_there_where_every_character_ends_in_a_token(
    values: dict[str, Any], bound: int | None, why: str
) -> None:
    expected = None if bound is None else PromptBound(bound, "")
    assert prompt_bound(values) == expected, why


def test_characters_that_the_vocabulary_lacks_do_not_count() -> None:
    values = byte_level()
    del values["model"]["vocab"]["!"], values["model"]["vocab"]["\u0104"]  # the byte 4

    bound = prompt_bound(values)

    assert bound is not None and bound.uncounted == "\x04!"
    assert num_counted("a!\x04!é🦙\ud800", bound.uncounted) == 4


def test_without_a_byte_that_characters_consist_of_there_is_no_bound() -> None:
    values = byte_level()
    del values["model"]["vocab"]["\u0122"]  # the byte 0x80

    assert prompt_bound(values) is None


TEXTS = st.lists(
    st.one_of(st.text(), st.sampled_from(["he", "hello", "   ", "<|end|>", "<s>", "e\u0301", "각"]))
).map("".join)
SPLIT = sequence(split(r"\s+|\w+"), name="pretokenizers")
LACKING = byte_level()
del LACKING["model"]["vocab"]["!"]
UNIGRAM = {
    "type": "Unigram",
    "unk_id": 0,
    "vocab": [[piece, -1.0] for piece in byte_fallback()["model"]["vocab"]],
    "byte_fallback": True,
}
METASPACE = {
    "type": "Metaspace",
    "replacement": "\u2581",
    "prepend_scheme": "always",
    "split": True,
}
FALCON = sequence(
    {"type": "Punctuation", "behavior": "Contiguous"},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    {"type": "Digits", "individual_digits": False},
    split("[0-9][0-9][0-9]"),
    name="pretokenizers",
)
BOUNDED = [
    byte_fallback(model=UNIGRAM),
    byte_fallback(model=UNIGRAM, normalizer=None, pre_tokenizer=METASPACE),
    byte_fallback(normalizer=replace(" ", "\u2581")),
    byte_level(pre_tokenizer=FALCON),
    LACKING,
    byte_level(),
    byte_level(normalizer=sequence({"type": "NFKC"}, {"type": "Lowercase"})),
    byte_level(normalizer=replace("hello", "he")),
    byte_fallback(),
    byte_fallback(pre_tokenizer=SPLIT),
]


@pytest.mark.parametrize("values", BOUNDED)
@given(text=TEXTS)
def test_no_token_stands_for_more_characters(values: dict[str, Any], text: str) -> None:
    tokenizer, bound = Tokenizer.from_str(json.dumps(values)), prompt_bound(values)
    assert bound is not None

    num_tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)

    assert num_counted(text, bound.uncounted) <= bound.max_chars(num_tokens)
