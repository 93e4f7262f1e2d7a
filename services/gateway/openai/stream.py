"""Streamed answers: chunks as tokens come, comments while a start is awaited, errors as events."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.gateway.generation.generation_group import GenerationGroup
from services.gateway.generation.generation_stream import Progress
from services.gateway.openai import sse
from services.gateway.openai.answer import Answer, total_usage
from services.gateway.openai.answer_events import AnswerEnd, merged
from services.gateway.openai.chunk_writer import ChunkWriter
from services.gateway.openai.errors import as_api_error, error_body
from services.gateway.openai.sse import ProgressForm


async def frames(
    group: GenerationGroup,
    answers: Sequence[Answer],
    writer: ChunkWriter,
    *,
    progress: ProgressForm,
) -> AsyncGenerator[bytes, None]:
    """All frames of the stream. It ends by itself; errors are its last frame, never raised."""
    try:
        async with aclosing(_frames(group, answers, writer, progress)) as written:
            async for frame in written:
                yield frame
    except Exception as exc:
        error = as_api_error(exc)
        group.failed(error)
        yield sse.data_frame(error_body(error).encoded())


async def _frames(
    group: GenerationGroup, answers: Sequence[Answer], writer: ChunkWriter, progress: ProgressForm
) -> AsyncGenerator[bytes, None]:
    num_open = len(answers)
    async with aclosing(merged(group.generations, answers)) as events:
        async for indexed in events:
            index, event, usage = indexed.index, indexed.event, answers[indexed.index].usage
            if isinstance(event, Progress):
                yield _progress(event, progress)
            elif isinstance(event, AnswerEnd):
                num_open -= 1
                frame = writer.piece(index, event.piece, usage)
                frame += writer.end(index, event.reason, usage)
                yield frame + (b"" if num_open else writer.close(total_usage(answers)))
            else:
                yield writer.piece(index, event, usage)


def _progress(event: Progress, form: ProgressForm) -> bytes:
    """Comments only of a start; whoever asked for events hears that the request lives, too."""
    if form is ProgressForm.EVENTS:
        return sse.progress_frame(event.latest, as_event=True)
    if form is ProgressForm.COMMENTS and event.awaits_start:
        return sse.progress_frame(event.latest, as_event=False)
    return b""
