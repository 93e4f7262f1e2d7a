"""Whole answers: everything, once they are complete."""

from collections.abc import Sequence
from contextlib import aclosing

from services.gateway.generation.generation_group import GenerationGroup
from services.gateway.generation.generation_stream import Progress
from services.gateway.openai.answer import Answer, AnswerPiece, joined
from services.gateway.openai.answer_events import AnswerEnd, merged
from services.gateway.openai.answer_format import WholeAnswer
from services.gateway.openai.responses import FinishText


async def collected(group: GenerationGroup, answers: Sequence[Answer]) -> list[WholeAnswer]:
    """In the order of the answers. Raises ApiError."""
    pieces: list[list[AnswerPiece]] = [[] for _ in answers]
    reasons: dict[int, FinishText] = {}
    async with aclosing(merged(group.generations, answers)) as events:
        async for indexed in events:
            if isinstance(indexed.event, AnswerEnd):
                pieces[indexed.index].append(indexed.event.piece)
                reasons[indexed.index] = indexed.event.reason
            elif not isinstance(indexed.event, Progress):
                pieces[indexed.index].append(indexed.event)
    return [WholeAnswer(joined(pieces[i]), reasons[i]) for i in range(len(answers))]
