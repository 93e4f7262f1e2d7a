"""The bytes that one token stands for, also when they are only a part of a character. Pure."""

import re

from libs.common.tokenizers.byte_letters import BYTE_LETTERS

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


_BYTES = {letter: byte for byte, letter in BYTE_LETTERS.items()}


def token_bytes(piece: str, text: str, *, is_byte_level: bool) -> bytes:
    """Of a vocabulary piece; `text` is what it decodes to alone, which suffices for most.

    Byte-level vocabularies spell every byte as a letter; others have pieces such as `<0xE2>`.
    """
    if is_byte_level and all(letter in _BYTES for letter in piece):
        return bytes(_BYTES[letter] for letter in piece)
    found = _BYTE_TOKEN.fullmatch(piece)
    return bytes([int(found[1], 16)]) if found else text.encode()
