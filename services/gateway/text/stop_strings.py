"""Finds stop strings in text that arrives in pieces. Pure.

Text that may be the beginning of a stop string is held back until the next piece decides, so that
no part of a stop string ever reaches the client, wherever token or attempt boundaries fall.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class StopResult:
    text: str  # safe to send
    is_stopped: bool


class StopMatcher:
    def __init__(self, stops: tuple[str, ...]) -> None:
        assert all(stops), "an empty stop string would stop everything"
        self._stops = stops
        self._held = ""

    def push(self, piece: str) -> StopResult:
        """The text that may go out; after `is_stopped` nothing more may be pushed."""
        text = self._held + piece
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self._held = ""
            return StopResult(text[: min(found)], is_stopped=True)
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        cut = len(text) - keep
        self._held = text[cut:]
        return StopResult(text[:cut], is_stopped=False)

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without being all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
