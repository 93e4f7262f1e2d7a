"""The JSON of `POST /v1/chat/completions`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.gateway.openai.answer import AnswerPiece
from services.gateway.openai.answer_format import WholeAnswer
from services.gateway.openai.json_lists import filled, parts_of
from services.gateway.openai.responses import (
    AssistantMessage,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    FinishText,
    Logprobs,
    TokenLogprob,
    Usage,
)


@dataclass(frozen=True)
class ChatFormat:
    completion_id: str
    model: str
    has_logprobs: bool
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> Iterator[bytes]:
        completion = ChatCompletion(
            id=self.completion_id,
            object="chat.completion",
            created=self.created,
            model=self.model,
            choices=[self._choice(index, answer) for index, answer in enumerate(answers)],
            usage=usage,
        )
        lists = [parts_of(answer.piece.logprobs or (), _entries) for answer in answers]
        return filled(completion.encoded(), lists if self.has_logprobs else ())

    def chunk(
        self, index: int, piece: AnswerPiece, reason: FinishText | None, *, is_first: bool
    ) -> ChatChunk:
        """The first one carries the role; the last one has a reason and nothing else."""
        content = Delta() if reason is not None and not is_first else Delta(content=piece.text)
        delta = Delta(role="assistant", content=piece.text) if is_first else content
        logprobs = Logprobs(content=list(piece.logprobs)) if piece.logprobs else None
        choice = ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=reason)
        return self._chunk([choice])

    def usage_chunk(self) -> ChatChunk:
        return self._chunk([])

    def _choice(self, index: int, answer: WholeAnswer) -> Choice:
        piece = answer.piece
        return Choice(
            index=index,
            message=AssistantMessage(role="assistant", content=piece.text, refusal=None),
            logprobs=Logprobs(content=[]) if self.has_logprobs else None,  # filled in parts
            finish_reason=answer.reason,
        )

    def _chunk(self, choices: list[ChunkChoice]) -> ChatChunk:
        return ChatChunk(
            id=self.completion_id,
            object="chat.completion.chunk",
            created=self.created,
            model=self.model,
            choices=choices,
        )


def _entries(entries: Sequence[TokenLogprob]) -> bytes:
    return b",".join(entry.encoded() for entry in entries)
