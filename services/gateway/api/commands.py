"""What operators ask for once, of a model: /api/v1/models/{name}/preload and /unload."""

from fastapi import APIRouter

from libs.common.states import ModelCommandKind
from services.gateway.api.models import PATH
from services.gateway.api.schemas import ModelView
from services.gateway.context import CallerDep, GatewayDep
from services.gateway.errors import Conflict
from services.gateway.model_readiness import ready_summary

router = APIRouter(prefix=PATH, tags=["models"])


@router.post("/{name:path}/preload", status_code=202)
async def preload_model(name: str, gateway: GatewayDep, caller: CallerDep) -> ModelView:
    """Start an endpoint although nobody waits for it, as soon as there is room; idle endpoints of
    other models give way. It stays for its keep-alive. Where there is one its keep-alive runs
    anew. Nothing is tried any more after ten minutes."""
    entry = await gateway.registry.latest(caller.tenant, name)
    ready_summary(entry, gateway.preparer.clock.now())
    await gateway.models.ask(entry.model_id, ModelCommandKind.PRELOAD)
    gateway.outbox.wake()
    return ModelView.of(entry)


@router.post("/{name:path}/unload", status_code=202)
async def unload_model(name: str, gateway: GatewayDep, caller: CallerDep) -> ModelView:
    """Let its endpoints go: idle ones now, busy ones once they have answered what they run. What
    waits, and whoever asks later, gets a new one."""
    entry = await gateway.registry.latest(caller.tenant, name)
    if entry.min_endpoints:
        message = (
            f"the model {name!r} shall always have {entry.min_endpoints} endpoints, which would"
            " start again; set its min_endpoints to 0 first"
        )
        raise Conflict(message, code="model_is_pinned", param="min_endpoints")
    await gateway.models.ask(entry.model_id, ModelCommandKind.UNLOAD)
    gateway.outbox.wake()
    return ModelView.of(entry)
