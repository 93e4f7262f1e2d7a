"""Whole answers: everything, once they are complete."""

from array import array
from collections.abc import Sequence
from contextlib import aclosing
from io import StringIO

from services.gateway.generation.generation_group import GenerationGroup
from services.gateway.generation.generation_stream import Progress
from services.gateway.openai.answer import Answer, AnswerPiece
from services.gateway.openai.answer_events import AnswerEnd, merged
from services.gateway.openai.answer_format import WholeAnswer
from services.gateway.openai.responses import FinishText
from services.gateway.openai.token_logprobs import TokenLogprobs


async def collected(group: GenerationGroup, answers: Sequence[Answer]) -> list[WholeAnswer]:
    """In the order of the answers. Raises ApiError."""
    growing = [_GrowingAnswer() for _ in answers]
    async with aclosing(merged(group.generations, answers)) as events:
        async for indexed in events:
            if isinstance(indexed.event, AnswerEnd):
                growing[indexed.index].add(indexed.event.piece)
                growing[indexed.index].reason = indexed.event.reason
            elif not isinstance(indexed.event, Progress):
                growing[indexed.index].add(indexed.event)
    return [answer.whole() for answer in growing]


class _GrowingAnswer:
    """An answer so far, as compact as can be: pieces of a token each would take much more."""

    def __init__(self) -> None:
        self.reason: FinishText | None = None
        self._text, self._offsets = StringIO(), array("I")
        self._logprobs: TokenLogprobs | None = None

    def add(self, piece: AnswerPiece) -> None:
        self._text.write(piece.text)
        self._offsets.extend(piece.offsets)
        if self._logprobs is None:
            self._logprobs = piece.logprobs
        elif piece.logprobs is not None:
            self._logprobs.extend(piece.logprobs)

    def whole(self) -> WholeAnswer:
        assert self.reason is not None, "an AnswerEnd comes last"
        text = self._text.getvalue()
        piece = AnswerPiece(text, self._logprobs, self._offsets, is_stopped=True)
        return WholeAnswer(piece, self.reason)
