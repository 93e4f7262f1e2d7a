"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.gateway.context import ArrivalDep, CallerDep, GatewayDep
from services.gateway.http.releasing_route import ReleasingRoute
from services.gateway.openai.chat_format import ChatFormat
from services.gateway.openai.requests.chat_request import ChatRequest
from services.gateway.openai.respond import respond
from services.gateway.openai.responses import EVENT_STREAM, ChatCompletion

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=ReleasingRoute)


@router.post("/chat/completions", response_model=ChatCompletion, responses=EVENT_STREAM)
async def create_chat_completion(
    body: ChatRequest,
    request: Request,
    gateway: GatewayDep,
    _caller: CallerDep,
    arrival: ArrivalDep,
) -> Response:
    """A cold model is started; meanwhile a stream carries progress as comments.

    With the header `X-Hydra-Progress: events` they come as events named `progress`, with `none`
    not at all; the header `X-Request-Timeout-Ms` lowers the request's deadline, which the operator
    sets (600 s if not).
    """
    prepared = await gateway.preparer.prepare_chat(body, arrival)
    completion_id = "chatcmpl-" + arrival.request_id
    answer_format = ChatFormat(completion_id, body.model, has_logprobs=bool(body.logprobs))
    return await respond(gateway, request, body, prepared, answer_format)
