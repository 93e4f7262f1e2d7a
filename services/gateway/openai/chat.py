"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.gateway.context import ArrivalDep, CallerDep, Gateway, GatewayDep
from services.gateway.errors import ClientGone
from services.gateway.http.disconnect import run_while_connected
from services.gateway.openai.collect import completion
from services.gateway.openai.prepare import Prepared
from services.gateway.openai.protocol import ChatRequest
from services.gateway.openai.responses import EVENT_STREAM, ChatCompletion
from services.gateway.openai.stream import ChunkWriter, frames
from services.gateway.openai.streaming_response import StreamingAnswer

PROGRESS_HEADER = "X-Hydra-Progress"
_CLIENT_CLOSED_REQUEST = 499  # nobody reads it; the log and the metrics do

router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.post("/chat/completions", response_model=ChatCompletion, responses=EVENT_STREAM)
async def create_chat_completion(
    body: ChatRequest,
    request: Request,
    gateway: GatewayDep,
    _caller: CallerDep,
    arrival: ArrivalDep,
) -> Response:
    """A cold model is started; meanwhile a stream carries progress as comments.

    With the header `X-Hydra-Progress: events` they come as events named `progress`; the header
    `X-Request-Timeout-Ms` lowers the request's deadline, which the operator sets (600 s if not).
    """
    prepared = await gateway.preparer.prepare(body, arrival)
    if not body.stream:
        return await _whole(gateway, body, prepared, request)
    writer = ChunkWriter(_completion_id(prepared), prepared.model, body.usage_options)
    as_events = request.headers.get(PROGRESS_HEADER, "").lower() == "events"
    return StreamingAnswer(
        gateway.dispatcher,
        prepared.job,
        lambda generation: frames(
            generation, prepared.answer, writer, progress_as_events=as_events
        ),
    )


async def _whole(
    gateway: Gateway, body: ChatRequest, prepared: Prepared, request: Request
) -> Response:
    async with gateway.dispatcher.run(prepared.job) as generation:
        work = completion(
            generation,
            prepared.answer,
            _completion_id(prepared),
            prepared.model,
            has_logprobs=bool(body.logprobs),
        )
        try:
            answer = await run_while_connected(request.receive, work)
        except ClientGone:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
    return Response(answer.encoded(), media_type="application/json")


def _completion_id(prepared: Prepared) -> str:
    return "chatcmpl-" + prepared.job.request_id
