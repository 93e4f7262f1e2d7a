"""How many characters one token of a tokenizer can stand for, at most. Pure.

A text with more characters than the context has tokens, times this number, cannot fit, so nobody
needs to tokenize it to know. The bound holds only where every character of a text ends in some
token; where a part of the tokenizer may drop any number of them there is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.common.tokenizers.byte_letters import BYTE_LETTERS
from libs.common.tokenizers.vetting import components

_KEEPING_PRE_TOKENIZERS = {"ByteLevel", "Digits", "Metaspace", "UnicodeScripts"}
_KEEPING_UNLESS_REMOVED = {"Punctuation", "Split"}
# Of how many characters they may make one.
_SHRINKING = {
    "ByteLevel": 1,
    "Lowercase": 1,
    "NFC": 4,
    "NFD": 1,
    "NFKC": 4,
    "NFKD": 1,
    "Prepend": 1,
}
_NUM_BYTES = 256


@dataclass(frozen=True)
class PromptBound:
    """`uncounted` are characters of ASCII of which a text may have any number: no token stands for
    them."""

    max_chars_per_token: int
    uncounted: str

    def max_chars(self, context_tokens: int) -> int:
        return self.max_chars_per_token * context_tokens


def num_counted(text: str, uncounted: str) -> int:
    """Characters of a text that end in some token. In one pass: there may be 128 uncounted ones."""
    if not uncounted:
        return len(text)
    data = text.encode(errors="surrogatepass")
    return len(text) - len(data) + len(data.translate(None, uncounted.encode()))


def prompt_bound(values: Mapping[str, Any]) -> PromptBound | None:
    """Of texts that are encoded; None where there is no bound. Raises TokenizerRefused."""
    pieces = _pieces(values)
    added = values.get("added_tokens") or []
    is_bounded = (
        bool(pieces)
        and all(_keeps(part) for part in components(values, "pre_tokenizer"))
        and not any(token.get("lstrip") or token.get("rstrip") for token in added)
    )
    shrinking, uncounted = _shrinking(values), _uncounted(values, pieces)
    if not is_bounded or shrinking is None or uncounted is None:
        return None
    contents = [len(str(token.get("content"))) for token in added]
    return PromptBound(shrinking * max(*map(len, pieces), *contents, 1), uncounted)


def _pieces(values: Mapping[str, Any]) -> set[str]:
    """Of the kinds of models that drop nothing: the others have one token for unknown words."""
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") not in ("BPE", "Unigram"):
        return set()
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        return set(vocab)
    entries = vocab if isinstance(vocab, list) else []
    return {entry[0] for entry in entries if isinstance(entry, list) and isinstance(entry[0], str)}


def _uncounted(values: Mapping[str, Any], pieces: set[str]) -> str | None:
    """Characters of ASCII that are dropped because their byte is unknown. None where others may
    be dropped too, or many unknown ones become one token."""
    if any(
        part.get("type") == "ByteLevel"
        for name in ("normalizer", "pre_tokenizer")
        for part in components(values, name)
    ):
        dropped = [byte for byte, letter in BYTE_LETTERS.items() if letter not in pieces]
        # Every other character has such bytes after its first.
        if any(0x80 <= byte < 0xC0 for byte in dropped):
            return None
        return "".join(sorted(chr(byte) for byte in dropped if byte < 0x80))
    fallback = {f"<0x{byte:02X}>" for byte in range(_NUM_BYTES)}
    model = values.get("model")
    is_complete = isinstance(model, dict) and bool(model.get("byte_fallback"))
    return "" if is_complete and fallback <= pieces else None


def _keeps(pre_tokenizer: Mapping[str, Any]) -> bool:
    kind = pre_tokenizer.get("type")
    if kind in _KEEPING_UNLESS_REMOVED:
        return pre_tokenizer.get("behavior") not in (None, "Removed")
    return kind in _KEEPING_PRE_TOKENIZERS


def _shrinking(values: Mapping[str, Any]) -> int | None:
    product = 1
    for part in components(values, "normalizer"):
        factor = _shrinking_of(part)
        if factor is None:
            return None
        product *= factor
    return product


def _shrinking_of(part: Mapping[str, Any]) -> int | None:
    if part.get("type") != "Replace":
        return _SHRINKING.get(str(part.get("type")))
    pattern, content = part.get("pattern"), part.get("content")
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    if not isinstance(literal, str) or not isinstance(content, str) or not content:
        return None
    return max(1, -(-len(literal) // len(content)))
