"""From prepared answers to the HTTP response, whole or as a stream: the same for both APIs."""

from fastapi import Request
from starlette.responses import Response

from services.gateway.context import Gateway
from services.gateway.errors import ClientGone
from services.gateway.generation.generation_group import run_all
from services.gateway.http.disconnect import run_while_connected
from services.gateway.openai.answer import total_usage
from services.gateway.openai.answer_format import AnswerFormat
from services.gateway.openai.chunk_writer import ChunkWriter
from services.gateway.openai.collect import collected
from services.gateway.openai.prepare import Prepared
from services.gateway.openai.requests.generation_request import GenerationRequest
from services.gateway.openai.sse import ProgressForm
from services.gateway.openai.stream import frames
from services.gateway.openai.streaming_response import StreamingAnswer

PROGRESS_HEADER = "X-Hydra-Progress"
_CLIENT_CLOSED_REQUEST = 499  # nobody reads it; the log and the metrics do


async def respond(
    gateway: Gateway,
    request: Request,
    body: GenerationRequest,
    prepared: Prepared,
    answer_format: AnswerFormat,
) -> Response:
    """Raises ApiError."""
    if not body.stream:
        return await _whole(gateway, request, prepared, answer_format)
    writer = ChunkWriter(answer_format, body.usage_options)
    progress = ProgressForm.of(request.headers.get(PROGRESS_HEADER))
    return StreamingAnswer(
        gateway.dispatcher,
        prepared.jobs,
        lambda group: frames(group, prepared.answers, writer, progress=progress),
    )


async def _whole(
    gateway: Gateway, request: Request, prepared: Prepared, answer_format: AnswerFormat
) -> Response:
    async with run_all(gateway.dispatcher, prepared.jobs) as group:
        try:
            work = collected(group, prepared.answers)
            answers = await run_while_connected(request.receive, work)
        except ClientGone:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
    body = answer_format.whole(answers, total_usage(prepared.answers))
    return Response(body.encoded(), media_type="application/json")
