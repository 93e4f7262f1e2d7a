"""Writes the long lists of a JSON answer part by part: none keeps the loop for long. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

_SLICE = 16  # tokens with twenty alternatives each take about a millisecond
_EMPTY_LIST = re.compile(rb'("(?:content|tokens|token_logprobs|top_logprobs|text_offset)":\[)\]')

_Item = TypeVar("_Item")


def filled(body: bytes, lists: Sequence[Iterable[bytes]]) -> Iterator[bytes]:
    """The body with its empty lists of log-probabilities filled, in the order in which they stand.
    No text can look like one: within a text quotes are escaped."""
    begin = 0
    for match, parts in zip(_EMPTY_LIST.finditer(body), lists, strict=True):
        yield body[begin : match.end(1)]
        yield from parts
        begin = match.end(1)
    yield body[begin:]


def parts_of(items: Sequence[_Item], encode: Callable[[Sequence[_Item]], bytes]) -> Iterator[bytes]:
    """Of a list without its brackets. `encode` writes some items, with commas between."""
    for begin in range(0, len(items), _SLICE):
        comma = b"," if begin else b""
        yield comma + encode(items[begin : begin + _SLICE])
