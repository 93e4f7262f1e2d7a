"""The parts of a tokenizer.json, as tokenizers of the hub have them."""

import json
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

PIECES = ("h", "e", "he", "▁he", "▁", "▁▁▁", "é")


def byte_level(**changes: Any) -> dict[str, Any]:
    """GPT-2's kind: a token for every byte, and some of more."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: index for index, piece in enumerate([*alphabet, "he", "llo"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("h", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    return values_of(tokenizer, **changes)


def byte_fallback(**changes: Any) -> dict[str, Any]:
    """Llama 2's kind: spaces are letters, and what is unknown is spelt in bytes."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    model = models.BPE(
        vocab=vocab, merges=[("h", "e")], unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return values_of(tokenizer, **changes)


def words(**changes: Any) -> dict[str, Any]:
    """BERT's kind: a word of any length may be one token."""
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "he": 1, "##llo": 2}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return values_of(tokenizer, **changes)


def split(pattern: str, behavior: str = "isolated") -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior)
    part: dict[str, Any] = json.loads(tokenizer.to_str())["pre_tokenizer"]
    return part


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*parts: dict[str, Any], name: str = "normalizers") -> dict[str, Any]:
    return {"type": "Sequence", name: list(parts)}


def values_of(tokenizer: Tokenizer, **changes: Any) -> dict[str, Any]:
    return {**json.loads(tokenizer.to_str()), **changes}
