"""Turning a growing list of token ids into text, piece by piece. Pure, given a decode function.

A token may end in the middle of a character, and a decoder may add or strip a space at the start
of what it is given. So ids are decoded in a window that begins a few tokens early: what the window
says now, less what it said before the new tokens, is the new text (the method of TGI and vLLM).
"""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MAX_HELD_TOKENS = 16  # then what is held is no character, and goes out as it is,
_MAX_BEGUN_TOKENS = 3  # but for the last: a character of four bytes may have begun there

Decode = Callable[[Sequence[int]], str]


class Detokenizer:
    """Because the whole list is kept, a request that moves to another worker simply goes on."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._window = 0  # first token of the window
        self._settled = 0  # tokens before this one have been turned into text

    def push(self, token_id: int) -> str:
        """New complete characters; an unfinished one is held back."""
        self._ids.append(token_id)
        end = len(self._ids)
        text = self._new_text(end)
        if not text or text.endswith(_REPLACEMENT):
            if end - self._settled < _MAX_HELD_TOKENS:
                return ""
            end -= _MAX_BEGUN_TOKENS
            text = self._new_text(end)
        self._window, self._settled = self._settled, end
        return text

    def flush(self) -> str:
        """The rest, with a replacement character for what stayed unfinished."""
        end = len(self._ids)
        text = self._new_text(end)
        self._window, self._settled = self._settled, end
        return text

    def _new_text(self, end: int) -> str:
        before = self._decode(self._ids[self._window : self._settled])
        return self._decode(self._ids[self._window : end])[len(before) :]
