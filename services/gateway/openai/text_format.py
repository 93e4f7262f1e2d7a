"""The JSON of `POST /v1/completions`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.gateway.openai.answer import AnswerPiece
from services.gateway.openai.answer_format import WholeAnswer
from services.gateway.openai.responses import (
    FinishText,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    TokenLogprob,
    Usage,
)


@dataclass(frozen=True)
class TextFormat:
    """Chunks look as whole answers do, with a choice each."""

    completion_id: str
    model: str
    has_logprobs: bool
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> TextCompletion:
        choices = [self._choice(i, a.piece, a.reason) for i, a in enumerate(answers)]
        return self._completion(choices).model_copy(update={"usage": usage})

    def chunk(
        self, index: int, piece: AnswerPiece, reason: FinishText | None, *, is_first: bool
    ) -> TextCompletion:
        return self._completion([self._choice(index, piece, reason)])

    def usage_chunk(self) -> TextCompletion:
        return self._completion([])

    def _choice(self, index: int, piece: AnswerPiece, reason: FinishText | None) -> TextChoice:
        return TextChoice(
            index=index,
            text=piece.text,
            logprobs=_logprobs(piece) if self.has_logprobs else None,
            finish_reason=reason,
        )

    def _completion(self, choices: list[TextChoice]) -> TextCompletion:
        return TextCompletion(
            id=self.completion_id,
            object="text_completion",
            created=self.created,
            model=self.model,
            choices=choices,
        )


def _logprobs(piece: AnswerPiece) -> TextLogprobs:
    return TextLogprobs(
        tokens=[entry.token for entry in piece.logprobs],
        token_logprobs=[entry.logprob for entry in piece.logprobs],
        top_logprobs=[_top(entry) for entry in piece.logprobs],
        text_offset=list(piece.offsets),
    )


def _top(entry: TokenLogprob) -> dict[str, float]:
    """By text, as OpenAI has it, with the chosen token. Of tokens that read the same the likelier
    one counts, which comes first."""
    found: dict[str, float] = {}
    for alternative in (*entry.top_logprobs, entry):
        found.setdefault(alternative.token, alternative.logprob)
    return found
