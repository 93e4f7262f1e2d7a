"""The pieces of one model's vocabulary, and its decoder: ids to text, in this process, at once.

A piece takes as many bytes as it has letters: no Python object stands for it until it is decoded.
"""

import json
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers.decoders import Decoder

from services.gateway.text.token_bytes import token_bytes

_NO_TOKENIZER: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": None, "post_processor": None,
    "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""},
}  # fmt: skip


NO_PIECE = b"\xff"  # of an id that the vocabulary lacks; a piece may be empty


class Vocabulary:
    """Decodes as the tokenizers' library does."""

    def __init__(self, facts: Mapping[str, Any], data: bytes) -> None:
        """As the child that loaded the tokenizer describes it. Raises ValueError."""
        self._ends = array("I")
        size = facts["num_ids"] * self._ends.itemsize
        self._ends.frombytes(data[:size])
        self._pieces = data[size:]
        self._special_ids = frozenset(facts["special_ids"])
        self._decoder = _decoder(facts["decoder"])
        self._is_byte_level = "ByteLevel" in json.dumps(facts["decoder"])

    @property
    def size_bytes(self) -> int:
        return len(self._pieces) + len(self._ends) * self._ends.itemsize

    def decode(self, ids: Sequence[int]) -> str:
        """Without special tokens."""
        pieces = (self._piece(i) for i in ids if i not in self._special_ids)
        return self._joined([piece for piece in pieces if piece is not None])

    def token_bytes(self, token_id: int) -> bytes:
        """One token alone, special ones too; perhaps a part of a character."""
        piece = self._piece(token_id)
        if piece is None:
            return b""
        text = self._joined([piece])
        return token_bytes(piece, text, is_byte_level=self._is_byte_level)

    def _piece(self, token_id: int) -> str | None:
        if not 0 <= token_id < len(self._ends):
            return None
        begin = self._ends[token_id - 1] if token_id else 0
        piece = self._pieces[begin : self._ends[token_id]]
        return None if piece == NO_PIECE else piece.decode()

    def _joined(self, pieces: list[str]) -> str:
        return " ".join(pieces) if self._decoder is None else self._decoder.decode(pieces)


def _decoder(values: Any) -> Decoder | None:
    """The library builds one from JSON as a part of a tokenizer only."""
    if values is None:
        return None
    tokenizer = LibraryTokenizer.from_str(json.dumps({**_NO_TOKENIZER, "decoder": values}))
    return cast("Decoder", tokenizer.decoder)
