"""Reads a tokenizer.json for what it would do to whoever runs it. Pure.

A tokenizer.json is a stranger's program: normalizers may make a million characters of one, regular
expressions may never end. What grows without reason is refused, at import and again before it is
loaded. What is of kinds whose costs are known runs beside other tenants' tokenizers; anything else
runs apart from them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from libs.common.errors import TokenizerRefused
from libs.common.tokenizers.regexes import is_bounded

MAX_GROWTH = 128  # characters that a normalizer may make of one
MAX_DECODED_GROWTH = 16
MAX_TOKEN_ID = 2**22
MAX_ADDED_TOKENS = 2**15
MAX_ADDED_CHARS = 2**20  # of all added tokens
MAX_TOKEN_CHARS = 2**12  # of one: a stream writes it at once, as often as the model says it
_MAX_COMPONENTS = 64
_MAX_WORD_CHARS = 1_000  # WordPiece tries every part of a word

# And what they make of one character at most.
_NORMALIZERS = {
    "BertNormalizer": 4, "ByteLevel": 4, "Lowercase": 3, "NFC": 3, "NFD": 4, "NFKC": 18,
    "NFKD": 18, "Nmt": 1, "Precompiled": 18, "Strip": 1, "StripAccents": 1,
}  # fmt: skip
_DECODERS = {
    "BPEDecoder": 1, "ByteFallback": 1, "ByteLevel": 1, "CTC": 1, "Fuse": 1, "Metaspace": 1,
    "Strip": 1, "WordPiece": 2,
}  # fmt: skip
_VETTED_PRE_TOKENIZERS = {
    "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation",
    "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit",
}  # fmt: skip
_VETTED_MODELS = {"BPE", "Unigram", "WordLevel", "WordPiece"}
_PARTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}


def components(values: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Of the normalizer, pre-tokenizer or decoder: the parts of sequences, in order.

    Raises TokenizerRefused.
    """
    found: list[Mapping[str, Any]] = []
    for part in _flattened(values.get(name), _PARTS[name]):
        found.append(part)
        if len(found) > _MAX_COMPONENTS:
            raise TokenizerRefused(f"its {name} has more than {_MAX_COMPONENTS} parts")
    return found


def _flattened(part: Any, name: str) -> Iterator[Mapping[str, Any]]:
    if part is None:
        return
    if not isinstance(part, dict):
        raise TokenizerRefused("a part of it is not an object")
    if part.get("type") != "Sequence":
        yield part
        return
    inner = part.get(name)
    for each in inner if isinstance(inner, list) else ():
        yield from _flattened(each, name)


def refuse_harmful(values: Mapping[str, Any]) -> None:
    """Raises TokenizerRefused for what nobody may run."""
    growth = 1
    for part in components(values, "normalizer"):
        growth *= _growth(part, _NORMALIZERS, default=18)
    if growth > MAX_GROWTH:
        raise TokenizerRefused(
            f"its normalizer could make {growth} characters of one, the limit is {MAX_GROWTH}"
        )
    _refuse_harmful_decoder(values)
    _refuse_harmful_tokens(values)


def is_vetted(values: Mapping[str, Any]) -> bool:
    """Whether it may run beside other tenants' tokenizers. Raises TokenizerRefused."""
    model = values.get("model")
    return (
        isinstance(model, dict)
        and _is_vetted_model(model)
        and all(_is_vetted_normalizer(part) for part in components(values, "normalizer"))
        and all(_is_vetted_pre_tokenizer(part) for part in components(values, "pre_tokenizer"))
    )


def _is_vetted_model(model: Mapping[str, Any]) -> bool:
    """Older files name no type."""
    if model.get("type", "BPE") == "WordPiece":
        longest = model.get("max_input_chars_per_word", 100)
        return isinstance(longest, int) and longest <= _MAX_WORD_CHARS
    return model.get("type", "BPE") in _VETTED_MODELS


def _is_vetted_normalizer(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")
    if kind == "Replace":
        return _has_bounded_pattern(part)
    return kind == "Prepend" or (kind in _NORMALIZERS and kind != "Precompiled")


def _is_vetted_pre_tokenizer(part: Mapping[str, Any]) -> bool:
    return part.get("type") in _VETTED_PRE_TOKENIZERS and (
        part["type"] != "Split" or _has_bounded_pattern(part)
    )


def _has_bounded_pattern(part: Mapping[str, Any]) -> bool:
    pattern = part.get("pattern")
    if not isinstance(pattern, dict):
        return False
    regex = pattern.get("Regex")
    return isinstance(pattern.get("String"), str) or (isinstance(regex, str) and is_bounded(regex))


def _growth(part: Mapping[str, Any], known: Mapping[str, int], default: int) -> int:
    if part.get("type") == "Prepend":  # also to each text between added tokens
        return 1 + _length(part.get("prepend"))
    if part.get("type") != "Replace":
        return known.get(str(part.get("type")), default)
    content, pattern = _length(part.get("content")), part.get("pattern")
    literal = _length(pattern.get("String")) if isinstance(pattern, dict) else 0
    return max(1, -(-content // literal)) if literal else 1 + content


def _length(text: Any) -> int:
    return len(text) if isinstance(text, str) else 0


def _refuse_harmful_decoder(values: Mapping[str, Any]) -> None:
    """Decoders run in the gateway itself, so each kind must be known."""
    growth = 1
    for part in components(values, "decoder"):
        kind, pattern = part.get("type"), part.get("pattern")
        is_literal = kind == "Replace" and isinstance(pattern, dict) and "String" in pattern
        if kind not in _DECODERS and not is_literal:
            raise TokenizerRefused(f"its decoder has a part that is not supported: {kind!s:.50}")
        growth *= _growth(part, _DECODERS, default=MAX_DECODED_GROWTH + 1)
    if growth > MAX_DECODED_GROWTH:
        raise TokenizerRefused(
            f"its decoder could make {growth} characters of one, the limit is {MAX_DECODED_GROWTH}"
        )


def _refuse_harmful_tokens(values: Mapping[str, Any]) -> None:
    added = values.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise TokenizerRefused("its added_tokens are not a list of objects")
    if len(added) > MAX_ADDED_TOKENS:
        raise TokenizerRefused(f"it has {len(added)} added tokens, the limit is {MAX_ADDED_TOKENS}")
    if sum(_length(token.get("content")) for token in added) > MAX_ADDED_CHARS:
        raise TokenizerRefused(f"its added tokens have more than {MAX_ADDED_CHARS} characters")
    if any(len(piece) > MAX_TOKEN_CHARS for piece in _pieces(values, added)):
        raise TokenizerRefused(f"it has a token of more than {MAX_TOKEN_CHARS} characters")
    if any(token_id > MAX_TOKEN_ID for token_id in _token_ids(values, added)):
        raise TokenizerRefused(f"it has a token id above {MAX_TOKEN_ID}")


def _token_ids(values: Mapping[str, Any], added: list[Any]) -> Iterator[int]:
    model = values.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    ids = list(vocab.values()) if isinstance(vocab, dict) else []  # a list's are its positions
    yield from (token_id for token_id in ids if isinstance(token_id, int))
    yield from (token["id"] for token in added if isinstance(token.get("id"), int))


def _pieces(values: Mapping[str, Any], added: list[Any]) -> Iterator[str]:
    model = values.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, dict):
        yield from vocab
    for entry in vocab if isinstance(vocab, list) else ():  # with its score
        if isinstance(entry, list) and entry and isinstance(entry[0], str):
            yield entry[0]
    yield from (token["content"] for token in added if isinstance(token.get("content"), str))
