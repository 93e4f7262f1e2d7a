"""The JSON of `POST /v1/completions`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from services.gateway.openai.answer import AnswerPiece
from services.gateway.openai.answer_format import WholeAnswer
from services.gateway.openai.json_lists import filled, parts_of
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

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> Iterator[bytes]:
        texts = [AnswerPiece(a.piece.text, None, (), is_stopped=True) for a in answers]
        choices = [self._choice(i, texts[i], a.reason) for i, a in enumerate(answers)]
        body = self._completion(choices).model_copy(update={"usage": usage}).encoded()
        lists = [parts for answer in answers for parts in _lists(answer.piece)]
        return filled(body, lists if self.has_logprobs else ())

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
    entries = list(piece.logprobs or ())
    return TextLogprobs(
        tokens=[entry.token for entry in entries],
        token_logprobs=[entry.logprob for entry in entries],
        top_logprobs=[_top(entry) for entry in entries],
        text_offset=list(piece.offsets),
    )


def _lists(piece: AnswerPiece) -> list[Iterator[bytes]]:
    """Of TextLogprobs, in parts. Tokens are described anew for each of the lists."""
    entries = piece.logprobs or ()
    return [
        parts_of(entries, lambda some: _json([entry.token for entry in some])),
        parts_of(entries, lambda some: _json([entry.logprob for entry in some])),
        parts_of(entries, lambda some: _json([_top(entry) for entry in some])),
        parts_of(piece.offsets, lambda some: _json(list(some))),
    ]


def _json(items: list[Any]) -> bytes:
    """Without the brackets."""
    return to_json(items)[1:-1]


def _top(entry: TokenLogprob) -> dict[str, float]:
    """By text, as OpenAI has it, with the chosen token. Of tokens that read the same the likelier
    one counts, which comes first."""
    found: dict[str, float] = {}
    for alternative in (*entry.top_logprobs, entry):
        found.setdefault(alternative.token, alternative.logprob)
    return found
