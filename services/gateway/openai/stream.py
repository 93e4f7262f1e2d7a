"""A streamed answer: chunks as tokens come, comments while a start is awaited, errors as events."""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from services.gateway.generation.generation_stream import Finished, GenerationStream, Progress
from services.gateway.openai import sse
from services.gateway.openai.answer import Answer, AnswerPiece, finish_text
from services.gateway.openai.errors import as_api_error, error_body
from services.gateway.openai.generation_request import StreamOptions
from services.gateway.openai.responses import (
    ChatChunk,
    ChunkChoice,
    Delta,
    FinishText,
    Logprobs,
    Usage,
)


@dataclass
class ChunkWriter:
    """Writes one completion's chunks; the first one carries the role."""

    completion_id: str
    model: str
    usage_options: StreamOptions
    created: int = field(default_factory=lambda: int(time.time()))
    _is_first: bool = True

    def piece(self, piece: AnswerPiece, usage: Usage) -> bytes:
        """Nothing for a piece that holds everything back. `usage` is that of the answer so far."""
        if not piece.text and not piece.logprobs:
            return b""
        delta = Delta(content=piece.text)
        if self._is_first:
            delta = Delta(role="assistant", content=piece.text)
            self._is_first = False
        logprobs = Logprobs(content=list(piece.logprobs)) if piece.logprobs else None
        return self._frame(delta, logprobs, None, usage)

    def end(self, reason: FinishText, usage: Usage) -> bytes:
        role = Delta(role="assistant", content="") if self._is_first else Delta()
        frames = self._frame(role, None, reason, usage)
        if self.usage_options.include_usage:
            frames += self._encode([], usage)
        return frames + sse.DONE

    def _frame(
        self, delta: Delta, logprobs: Logprobs | None, reason: FinishText | None, usage: Usage
    ) -> bytes:
        choice = ChunkChoice(index=0, delta=delta, logprobs=logprobs, finish_reason=reason)
        return self._encode([choice], usage if self.usage_options.continuous_usage_stats else None)

    def _encode(self, choices: list[ChunkChoice], usage: Usage | None) -> bytes:
        chunk = ChatChunk(
            id=self.completion_id,
            object="chat.completion.chunk",
            created=self.created,
            model=self.model,
            choices=choices,
        )
        if self.usage_options.include_usage:
            chunk = chunk.model_copy(update={"usage": usage})
        return sse.data_frame(chunk.encoded())


async def frames(
    generation: GenerationStream, answer: Answer, writer: ChunkWriter, *, progress_as_events: bool
) -> AsyncGenerator[bytes, None]:
    """All frames of the stream. It ends by itself; errors are its last frame, never raised."""
    try:
        async for event in generation.events():
            if isinstance(event, Progress):
                if event.awaits_start or progress_as_events:
                    yield sse.progress_frame(event.latest, as_event=progress_as_events)
            elif isinstance(event, Finished):
                piece = answer.finish()
                reason = finish_text(event.reason, piece)
                yield writer.piece(piece, answer.usage) + writer.end(reason, answer.usage)
            else:
                piece = answer.push(event)
                yield writer.piece(piece, answer.usage)
                if piece.is_stopped:
                    generation.stopped(answer.num_tokens)
                    yield writer.end("stop", answer.usage)
                    return
    except Exception as exc:
        error = as_api_error(exc)
        generation.failed(error)
        yield sse.data_frame(error_body(error).encoded())
