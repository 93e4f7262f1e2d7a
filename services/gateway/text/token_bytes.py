"""The bytes that one token stands for, also when they are only a part of a character. Pure."""

import re

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's: printable bytes are themselves, the others are letters from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + position): byte for position, byte in enumerate(others)
    }


_ALPHABET = _byte_alphabet()


def token_bytes(piece: str, text: str, *, is_byte_level: bool) -> bytes:
    """Of a vocabulary piece; `text` is what it decodes to alone, which suffices for most.

    Byte-level vocabularies spell every byte as a letter; others have pieces such as `<0xE2>`.
    """
    if is_byte_level and all(letter in _ALPHABET for letter in piece):
        return bytes(_ALPHABET[letter] for letter in piece)
    found = _BYTE_TOKEN.fullmatch(piece)
    return bytes([int(found[1], 16)]) if found else text.encode()
