"""What parsing a JSON body will cost, counted while it arrives. Pure.

Python parses a body in one go, and nothing else happens meanwhile: 8 MB of text take milliseconds,
8 MB of small values half a second. So values are counted, part by part, before they are parsed.
"""

COST_OF_OBJECT = 10  # or list: as many numbers take as long
COST_OF_NAME = 5  # in an object
_COSTS = {b",": 1, b":": COST_OF_NAME, b"{": COST_OF_OBJECT, b"[": COST_OF_OBJECT}


class JsonCost:
    """`units` is about how many numbers in a list would cost as much. Only of UTF-8; a body with a
    NUL byte is in another encoding, or no JSON."""

    def __init__(self) -> None:
        self.units = 1
        self.has_nul = False
        self._is_in_string = False
        self._is_escaped = (
            False  # the last byte began an escape whose other half is in the next part
        )

    def feed(self, part: bytes) -> None:
        """The next part of the body; small ones keep each call short."""
        if not part:
            return
        self.has_nul = self.has_nul or b"\x00" in part
        text = self._without_escapes(part)
        pieces = text.split(b'"')
        outside = b"".join(pieces[int(self._is_in_string) :: 2])
        self.units += sum(cost * outside.count(sign) for sign, cost in _COSTS.items())
        self._is_in_string ^= len(pieces) % 2 == 0

    def _without_escapes(self, part: bytes) -> bytes:
        """Escaped quotes end no string."""
        if self._is_escaped:
            part = part[1:]
        text = part.replace(b"\\\\", b"")
        self._is_escaped = text.endswith(b"\\")
        return text.replace(b'\\"', b"")
