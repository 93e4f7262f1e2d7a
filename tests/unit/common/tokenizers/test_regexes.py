"""Regular expressions that end soon, and such that may not."""

import pytest

from libs.common.tokenizers.regexes import is_bounded

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT_4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK_3 = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
)


@pytest.mark.parametrize(
    "pattern",
    [LLAMA_3, GPT_4O, QWEN_2, DEEPSEEK_3, r"\p{N}{1,3}", r"[一-龥぀-ゟ]+", " {2,}", "a++b"],
)
def test_those_of_the_hubs_models_end_soon(pattern: str) -> None:
    assert is_bounded(pattern)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+b", "every way of splitting is tried"),
        ("(a*)*b", ""),
        ("(?:a{1,9}){1,9}b", "bounds multiply"),
        ("((ab?c?)+d)*e", "however deep"),
        ("(?=(a+)+b)", "in what is looked at ahead too"),
        ("x|(a+)+b", "in one of several alternatives too"),
        ("(a+)b\\1", "a backreference"),
        ("(a?a?)*b", "what may be there or not is a repetition too"),
        ("a*a*a*a*b", "time grows with the fourth power"),
        ("(a|a)*b", "alternatives of which several match"),
        ("(", "not even a pattern"),
        ("\\K(?<n>a)", "what Python cannot read"),
        ("a" * 2_049, "longer than anybody reads"),
    ],
)
def test_those_that_may_not_end_are_not_taken_for_bounded(pattern: str, why: str) -> None:
    assert not is_bounded(pattern), why
