"""Keeps a client's text from being read as a control token, by quoting. Pure.

A tokenizer finds its special tokens in any text, so a message that says `<|im_end|>` would end its
own turn and could begin one of the system's. Templates only see text, so what must stay text is
put between marks before the template runs; afterwards the marks say what to encode how. Marks are
Unicode's noncharacters, which stand for nothing, and none that the messages use themselves.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
_MAX_QUOTES = 20_000  # each is encoded for itself


@dataclass(frozen=True)
class PromptPiece:
    text: str
    is_quoted: bool  # to be encoded without special tokens


@dataclass(frozen=True)
class ControlTokenGuard:
    """Quotes with two marks. `specials` are the special tokens that occur in a client's texts, at
    least one."""

    opening: str
    closing: str
    specials: tuple[str, ...]

    @classmethod
    def needed_for(
        cls, texts: Sequence[str], specials: Iterable[str]
    ) -> "ControlTokenGuard | None":
        """None when no text has a special token. Raises ValueError for more than can be quoted."""
        found = tuple(special for special in specials if any(special in text for text in texts))
        if not found:
            return None
        unused = [mark for mark in _NONCHARACTERS if not any(mark in text for text in texts)]
        if len(unused) < 2:
            raise ValueError("special tokens and all of Unicode's noncharacters are too much")
        if sum(text.count(special) for special in found for text in texts) > _MAX_QUOTES:
            raise ValueError(f"the messages spell more than {_MAX_QUOTES} special tokens")
        return cls(unused[0], unused[1], tuple(sorted(found, key=len, reverse=True)))

    @classmethod
    def of_values(cls, values: Sequence[str]) -> "ControlTokenGuard":
        opening, closing, *specials = values
        return cls(opening, closing, tuple(specials))

    def as_values(self) -> list[str]:
        """For a message to another process."""
        return [self.opening, self.closing, *self.specials]

    def quote(self, text: str) -> str:
        """A client's text as the template shall see it."""
        return re.sub(self._any_special, lambda match: self.opening + match[0] + self.closing, text)

    def num_marks(self, text: str) -> int:
        return text.count(self.opening) + text.count(self.closing)

    def pieces(self, prompt: str) -> Iterator[PromptPiece]:
        """Of the rendered prompt, in order. A template may have torn a mark from its pair; the
        other one still quotes."""
        special = self._any_special
        quoted = f"{self.opening}({special}){self.closing}?|({special}){self.closing}"
        end = 0
        for match in re.finditer(quoted, prompt):
            yield from self._plain(prompt[end : match.start()])
            yield PromptPiece(match[1] or match[2], is_quoted=True)
            end = match.end()
        yield from self._plain(prompt[end:])

    @property
    def _any_special(self) -> str:
        return "|".join(map(re.escape, self.specials))

    def _plain(self, text: str) -> Iterator[PromptPiece]:
        text = text.replace(self.opening, "").replace(self.closing, "")
        if text:
            yield PromptPiece(text, is_quoted=False)
