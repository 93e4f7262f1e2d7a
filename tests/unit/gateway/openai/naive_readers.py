"""How clients in use read a stream: each takes the bytes of one read after the other.

None is a parser by the standard. What they have in common is that they take a read for something
whole, so what one write carries matters to them. Each gives the JSON of the events that it saw.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

Events = list[Any]


def strips_each_read(reads: Iterable[bytes]) -> Events:
    """As load generators do that keep a buffer: white space at a read's ends is gone, an event
    ends with an empty line, and what is left at the end of a read counts if it is whole."""
    events: Events = []
    buffer = ""
    for read in reads:
        buffer += read.decode().strip()
        *ended, buffer = buffer.split("\n\n")
        if buffer.startswith("data: ") and _is_whole(buffer):
            ended, buffer = [*ended, buffer], ""
        events += [_data(text.strip()) for text in ended if text.strip() and text[0] != ":"]
    return [event for event in events if event is not None]


def takes_a_read_for_whole_events(reads: Iterable[bytes]) -> Events:
    """Without a buffer: whatever a read brings, it ends with an event."""
    parts = [part.strip() for read in reads for part in read.decode().split("\n\n")]
    events = [_data(part) for part in parts if part and not part.startswith(":")]
    return [event for event in events if event is not None]


def takes_lines_with_data(reads: Iterable[bytes]) -> Events:
    """Line by line, over the limits of reads; every other line is skipped."""
    lines = b"".join(reads).decode().splitlines()
    events = [_data(line) for line in lines if line.startswith("data:")]
    return [event for event in events if event is not None]


READERS: tuple[Callable[[Iterable[bytes]], Events], ...] = (
    strips_each_read,
    takes_a_read_for_whole_events,
    takes_lines_with_data,
)


def _data(text: str) -> Any:
    """None for what ends a stream. Raises ValueError for what is no JSON."""
    content = text.removeprefix("data:").strip()
    return None if content == "[DONE]" else json.loads(content)


def _is_whole(text: str) -> bool:
    try:
        _data(text)
    except ValueError:
        return False
    return True
