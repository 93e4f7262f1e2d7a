"""A whole answer: everything, once it is complete."""

import time

from services.gateway.generation.generation_stream import Finished, GenerationStream
from services.gateway.generation.token_log import TokenBatch
from services.gateway.openai.answer import Answer, finish_text
from services.gateway.openai.responses import (
    AssistantMessage,
    ChatCompletion,
    Choice,
    FinishText,
    Logprobs,
    TokenLogprob,
)


async def completion(
    generation: GenerationStream,
    answer: Answer,
    completion_id: str,
    model: str,
    *,
    has_logprobs: bool,
) -> ChatCompletion:
    """Raises ApiError."""
    texts: list[str] = []
    logprobs: list[TokenLogprob] = []
    reason: FinishText = "stop"
    async for event in generation.events():
        if isinstance(event, TokenBatch):
            piece = answer.push(event)
        elif isinstance(event, Finished):
            piece = answer.finish()
            reason = finish_text(event.reason, piece)
        else:
            continue
        texts.append(piece.text)
        logprobs.extend(piece.logprobs)
        if piece.is_stopped:
            generation.stopped(answer.num_tokens)
            break
    message = AssistantMessage(role="assistant", content="".join(texts), refusal=None)
    choice = Choice(
        index=0,
        message=message,
        logprobs=Logprobs(content=logprobs) if has_logprobs else None,
        finish_reason=reason,
    )
    return ChatCompletion(
        id=completion_id,
        object="chat.completion",
        created=int(time.time()),
        model=model,
        choices=[choice],
        usage=answer.usage,
    )
