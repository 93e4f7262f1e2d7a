"""What a tokenizer.json may ask for, and what of it runs beside other tenants' tokenizers."""

from typing import Any

import pytest

from libs.common.errors import TokenizerRefused
from libs.common.tokenizers.vetting import is_vetted, refuse_harmful
from tests.unit.common.tokenizers.files import (
    byte_fallback,
    byte_level,
    replace,
    sequence,
    split,
    words,
)

DOUBLED = replace("a", "aa", "String")


@pytest.mark.parametrize("values", [byte_level(), byte_fallback(), words()])
def test_tokenizers_of_the_hubs_kinds_run_beside_others(values: dict[str, Any]) -> None:
    refuse_harmful(values)

    assert is_vetted(values)


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (
            byte_level(normalizer=sequence(replace("a", "a" * 100), replace("a", "a" * 100))),
            "10000 characters of one",
        ),
        (byte_level(normalizer=sequence(*[DOUBLED] * 8)), "256 characters of one"),
        (byte_level(normalizer=sequence(*[{"type": "Prepend", "prepend": "a" * 9}] * 3)), "1000"),
        (byte_level(normalizer=replace("a*", "b" * 500, "Regex")), "501 characters of one"),
        (byte_level(normalizer=sequence(*[{"type": "NFC"}] * 65)), "more than 64 parts"),
        (byte_level(decoder=sequence(*[DOUBLED] * 5, name="decoders")), "32 characters of one"),
        (byte_level(decoder=replace("a", "a", "Regex")), "not supported: Replace"),
        (byte_level(decoder={"type": "Novel"}), "not supported: Novel"),
        (byte_level(decoder=[]), "not an object"),
        (byte_level(added_tokens=[{"id": 2**31, "content": "x"}]), "token id above"),
        (byte_level(added_tokens=[{"id": 1, "content": "x" * 2**20 + "x"}]), "characters"),
        (byte_level(added_tokens=[{"id": 1, "content": "x" * 4097}]), "token of more than 4096"),
        (byte_level(model={"type": "BPE", "vocab": {"x" * 4097: 0}}), "token of more than 4096"),
        (byte_level(model={"type": "Unigram", "vocab": [["x" * 4097, 0.0]]}), "more than 4096"),
        (byte_level(added_tokens=["x"]), "not a list of objects"),
        (byte_level(added_tokens=[{}] * (2**15 + 1)), "32769 added tokens"),
    ],
)
def test_what_grows_or_is_unknown_in_the_gateway_itself_is_refused(
    values: dict[str, Any], cause: str
) -> None:
    with pytest.raises(TokenizerRefused, match=cause):
        refuse_harmful(values)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pre_tokenizer": split("(a+)+b")}, "a repetition within another never ends"),
        ({"pre_tokenizer": {"type": "Novel"}}, "nobody knows its cost"),
        ({"normalizer": {"type": "Precompiled"}}, "its table is the owner's"),
        ({"normalizer": replace("(a|a)*b", "", "Regex")}, "alternatives that overlap"),
        ({"model": {"type": "WordPiece", "max_input_chars_per_word": 10**6}}, "quadratic"),
        ({"model": {"type": "Novel"}}, "nobody knows its cost"),
        ({"model": None}, "there is none"),
    ],
)
def test_what_may_cost_more_than_its_text_runs_apart(changes: dict[str, Any], why: str) -> None:
    assert not is_vetted(byte_level(**changes)), why
