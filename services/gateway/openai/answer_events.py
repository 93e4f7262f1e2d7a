"""What becomes of an answer, event by event: its pieces, progress, and its end."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from services.gateway.generation.generation_stream import Finished, GenerationStream, Progress
from services.gateway.http.disconnect import cancel_and_wait
from services.gateway.openai.answer import Answer, AnswerPiece, finish_text
from services.gateway.openai.responses import FinishText


@dataclass(frozen=True)
class AnswerEnd:
    """The last piece, which may be empty, and why nothing follows."""

    piece: AnswerPiece
    reason: FinishText


AnswerEvent = Progress | AnswerPiece | AnswerEnd


@dataclass(frozen=True)
class IndexedEvent:
    index: int  # of the answer among those of one HTTP request
    event: AnswerEvent


async def answer_events(
    generation: GenerationStream, answer: Answer
) -> AsyncGenerator[AnswerEvent, None]:
    """An AnswerEnd comes last. Raises ApiError."""
    async for event in generation.events():
        if isinstance(event, Progress):
            yield event
        elif isinstance(event, Finished):
            piece = answer.finish()
            yield AnswerEnd(piece, finish_text(event.reason, piece))
        else:
            piece = answer.push(event)
            if piece.is_stopped:
                generation.stopped(answer.num_tokens)
                yield AnswerEnd(piece, "stop")
                return
            yield piece


async def merged(
    generations: Sequence[GenerationStream], answers: Sequence[Answer]
) -> AsyncGenerator[IndexedEvent, None]:
    """The events of all answers as they come. Raises what the first one that breaks raises."""
    pairs = zip(generations, answers, strict=True)
    sources = [answer_events(generation, answer) for generation, answer in pairs]
    if len(sources) == 1:  # nearly always: without a task for each event
        async with aclosing(sources[0]) as only:
            async for event in only:
                yield IndexedEvent(0, event)
        return
    waiting = {asyncio.create_task(anext(source)): index for index, source in enumerate(sources)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index = waiting.pop(task)
                event = task.result()
                if not isinstance(event, AnswerEnd):
                    waiting[asyncio.create_task(anext(sources[index]))] = index
                yield IndexedEvent(index, event)
    finally:
        await _close(waiting, sources)


async def _close(
    waiting: "dict[asyncio.Task[AnswerEvent], int]",
    sources: Sequence[AsyncGenerator[AnswerEvent, None]],
) -> None:
    if waiting:
        await cancel_and_wait(*waiting)
    for source in sources:
        await source.aclose()
