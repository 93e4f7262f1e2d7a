"""From prepared answers to the HTTP response, whole or as a stream: the same for both APIs."""

from fastapi import Request
from starlette.responses import Response

from services.gateway.context import Gateway
from services.gateway.openai.answer_format import AnswerFormat
from services.gateway.openai.chunk_writer import ChunkWriter
from services.gateway.openai.prepare import Prepared
from services.gateway.openai.requests.generation_request import GenerationRequest
from services.gateway.openai.sse import ProgressForm
from services.gateway.openai.stream import frames
from services.gateway.openai.streaming_response import StreamingAnswer
from services.gateway.openai.whole_response import WholeResponse

PROGRESS_HEADER = "X-Hydra-Progress"


async def respond(
    gateway: Gateway,
    request: Request,
    body: GenerationRequest,
    prepared: Prepared,
    answer_format: AnswerFormat,
) -> Response:
    """Raises ApiError."""
    if not body.stream:
        return WholeResponse(gateway.dispatcher, prepared, answer_format)
    writer = ChunkWriter(answer_format, body.usage_options)
    progress = ProgressForm.of(request.headers.get(PROGRESS_HEADER))
    return StreamingAnswer(
        gateway.dispatcher,
        prepared.jobs,
        lambda group: frames(group, prepared.answers, writer, progress=progress),
    )
