"""Token ids in four bytes each: as a Python tuple a long prompt takes nine times as much.

Stdlib only: the worker runtime reads frames with it.
"""

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

BYTES_PER_ID = 4


class TokenIds(Sequence[int]):
    """Immutable, and equal to any sequence of the same numbers. As text it is base64 of 32-bit
    little-endian numbers."""

    __slots__ = ("_ids",)

    def __init__(self, ids: Iterable[int] = ()) -> None:
        """Raises OverflowError for an id below 0 or of 2**32 or more, TypeError for no number."""
        self._ids: array[int] = array("I", ids._ids if isinstance(ids, TokenIds) else ids)

    @classmethod
    def from_base64(cls, text: str) -> "TokenIds":
        """Raises ValueError."""
        data = b64decode(text.encode("ascii"), validate=True)
        if len(data) % BYTES_PER_ID:
            raise ValueError(f"{len(data)} bytes are no whole number of token ids")
        found = cls()
        found._ids.frombytes(data)
        if sys.byteorder == "big":
            found._ids.byteswap()
        return found

    def base64(self) -> str:
        ids = self._ids
        if sys.byteorder == "big":
            ids = ids[:]
            ids.byteswap()
        return b64encode(ids).decode("ascii")

    @classmethod
    def joined(cls, parts: "Iterable[TokenIds]") -> "TokenIds":
        found = cls()
        for part in parts:
            found._ids.extend(part._ids)
        return found

    def __add__(self, other: "TokenIds") -> "TokenIds":
        return TokenIds.joined((self, other))

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> "TokenIds": ...
    def __getitem__(self, index: int | slice) -> "int | TokenIds":
        found = self._ids[index]
        return found if isinstance(found, int) else TokenIds(found)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TokenIds):
            return self._ids == other._ids
        return isinstance(other, Sequence) and tuple(self._ids) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self._ids))  # as that of the tuple that it is equal to

    def __repr__(self) -> str:
        return f"<{len(self)} token ids>"  # prompts are not for logs
