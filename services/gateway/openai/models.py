"""GET /v1/models: what this key's tenant may ask. The project's own API says more."""

from fastapi import APIRouter

from services.gateway.context import CallerDep, GatewayDep
from services.gateway.openai.responses import Model, ModelList
from services.gateway.store.models import ModelEntry

router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.get("/models")
async def list_models(gateway: GatewayDep, caller: CallerDep) -> ModelList:
    entries = gateway.registry.list_models(caller.tenant)
    ready = [_model(entry) for entry in entries if entry.can_be_asked]
    return ModelList(object="list", data=ready)


@router.get("/models/{name:path}")
async def get_model(name: str, gateway: GatewayDep, caller: CallerDep) -> Model:
    return _model(await gateway.registry.find(caller.tenant, name))


def _model(entry: ModelEntry) -> Model:
    created = int(entry.created_at.timestamp())
    return Model(id=entry.name, object="model", created=created, owned_by=entry.tenant)
