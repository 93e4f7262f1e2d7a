"""GET /v1/models: what this key's tenant may ask. The project's own API says more."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.gateway.api.pages import After, json_list
from services.gateway.context import CallerDep, GatewayDep
from services.gateway.openai.responses import Model, ModelList

MAX_MODELS = 10_000

router = APIRouter(prefix="/v1", tags=["OpenAI"])
Limit = Annotated[int, Query(ge=1, le=MAX_MODELS, description="How many at most")]


@router.get("/models", response_model=ModelList)
async def list_models(
    gateway: GatewayDep, caller: CallerDep, after: After = "", limit: Limit = MAX_MODELS
) -> Response:
    """By name. `has_more`: there are others after the last one."""
    page = await gateway.lists.askable_page(caller.tenant, after, limit)
    models = await json_list(
        page.items,
        lambda item: _model(item.name, item.created_at, caller.tenant).model_dump_json(),
    )
    has_more = "true" if page.has_more else "false"
    body = f'{{"object":"list","data":{models},"has_more":{has_more}}}'
    return Response(body, media_type="application/json")


@router.get("/models/{name:path}")
async def get_model(name: str, gateway: GatewayDep, caller: CallerDep) -> Model:
    entry = await gateway.registry.find(caller.tenant, name)
    return _model(entry.name, entry.created_at, entry.tenant)


def _model(name: str, created_at: datetime, tenant: str) -> Model:
    return Model(id=name, object="model", created=int(created_at.timestamp()), owned_by=tenant)
