"""POST /v1/completions: text that goes on with a prompt, without a chat template."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.gateway.context import ArrivalDep, CallerDep, GatewayDep
from services.gateway.http.releasing_route import ReleasingRoute
from services.gateway.openai.requests.completion_request import CompletionRequest
from services.gateway.openai.respond import respond
from services.gateway.openai.responses import EVENT_STREAM, TextCompletion
from services.gateway.openai.text_format import TextFormat

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=ReleasingRoute)


@router.post("/completions", response_model=TextCompletion, responses=EVENT_STREAM)
async def create_completion(
    body: CompletionRequest,
    request: Request,
    gateway: GatewayDep,
    _caller: CallerDep,
    arrival: ArrivalDep,
) -> Response:
    """The prompt is a text or token ids; of a list of either, each one gets a choice of its own.

    Special tokens are read in a text as what they are. Progress and deadlines as with chats.
    """
    prepared = await gateway.preparer.prepare_completion(body, arrival)
    completion_id = "cmpl-" + arrival.request_id
    answer_format = TextFormat(completion_id, body.model, has_logprobs=body.logprobs is not None)
    return await respond(gateway, request, body, prepared, answer_format)
