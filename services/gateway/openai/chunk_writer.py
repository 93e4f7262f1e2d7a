"""Writes the chunks of a stream, of one answer or of several."""

from dataclasses import dataclass, field

from services.gateway.openai import sse
from services.gateway.openai.answer import AnswerPiece
from services.gateway.openai.answer_format import AnswerFormat
from services.gateway.openai.requests.generation_request import StreamOptions
from services.gateway.openai.responses import FinishText, JsonAnswer, Usage

_NOTHING = AnswerPiece("", None, (), is_stopped=False)


@dataclass
class ChunkWriter:
    """`usage` is that of an answer so far, or in `close` of all of them."""

    format: AnswerFormat
    usage_options: StreamOptions
    _begun: set[int] = field(default_factory=set)

    def piece(self, index: int, piece: AnswerPiece, usage: Usage) -> bytes:
        """Nothing for a piece that holds everything back."""
        if not piece.text and not piece.logprobs:
            return b""
        return self._choice(index, piece, None, usage)

    def end(self, index: int, reason: FinishText, usage: Usage) -> bytes:
        return self._choice(index, _NOTHING, reason, usage)

    def close(self, usage: Usage) -> bytes:
        if not self.usage_options.include_usage:
            return sse.DONE
        return self._frame(self.format.usage_chunk(), usage) + sse.DONE

    def _choice(
        self, index: int, piece: AnswerPiece, reason: FinishText | None, usage: Usage
    ) -> bytes:
        is_first = index not in self._begun
        self._begun.add(index)
        chunk = self.format.chunk(index, piece, reason, is_first=is_first)
        return self._frame(chunk, usage if self.usage_options.continuous_usage_stats else None)

    def _frame(self, chunk: JsonAnswer, usage: Usage | None) -> bytes:
        if self.usage_options.include_usage:
            chunk = chunk.model_copy(update={"usage": usage})
        return sse.data_frame(chunk.encoded())
