"""What one of the completion APIs makes of answers: its JSON, whole or in chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.gateway.openai.answer import AnswerPiece
from services.gateway.openai.responses import FinishText, JsonAnswer, Usage


@dataclass(frozen=True)
class WholeAnswer:
    piece: AnswerPiece  # all of it
    reason: FinishText


class AnswerFormat(Protocol):
    @property
    def has_logprobs(self) -> bool: ...

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> Iterator[bytes]:
        """The response with all answers, in parts: log-probabilities are many."""

    def chunk(
        self, index: int, piece: AnswerPiece, reason: FinishText | None, *, is_first: bool
    ) -> JsonAnswer:
        """The chunk with a piece of the answer of that index; the last one has a reason."""

    def usage_chunk(self) -> JsonAnswer:
        """The one without any choice."""
