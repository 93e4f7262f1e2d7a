"""The letters with which byte-level vocabularies spell bytes, as GPT-2 began it."""


def _byte_letters() -> dict[int, str]:
    """Printable bytes are themselves, the others are letters from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(0x100 + position) for position, byte in enumerate(others)
    }


BYTE_LETTERS = _byte_letters()
