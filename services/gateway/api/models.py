"""Registering models: /api/v1/models. In the path a model goes by its name, slashes and all."""

from dataclasses import replace

from fastapi import APIRouter, Response

from libs.common.ids import new_id
from libs.common.reasons import Reason
from services.gateway.api.pages import PAGE, After, Limit, json_list, next_link
from services.gateway.api.recent_use import recent_prefetches, recent_use
from services.gateway.api.schemas import ModelChange, ModelDetail, ModelView, NewModel
from services.gateway.api.tenants import check_pin
from services.gateway.auth import Caller
from services.gateway.context import CallerDep, Gateway, GatewayDep
from services.gateway.errors import Conflict, NotServed
from services.gateway.feasibility import (
    check_endpoints,
    check_engine,
    check_full_workers,
    check_kv_cache,
    check_pipeline,
)
from services.gateway.text.template_check import check_template

_FIXED_OWNER = (
    "who may share a model's weights is decided when it is registered, because it is part of how"
    " they are stored; delete the model and register it again"
)

PATH = "/api/v1/models"
router = APIRouter(prefix=PATH, tags=["models"])


@router.post("", status_code=202)
async def register_model(body: NewModel, gateway: GatewayDep, caller: CallerDep) -> ModelView:
    """The import begins at once; follow `state`, `bytes_done` and `cause`."""
    check_engine(body.engine)
    check_pipeline(body.min_pipeline_size, body.max_pipeline_size)
    check_full_workers(body.full_memory_workers, body.max_pipeline_size)
    check_pin(caller, body.min_endpoints)
    check_endpoints(body.min_endpoints, body.max_endpoints)
    await _check_template(body.chat_template, gateway, caller)
    entry = await gateway.models.create(new_id("model"), caller.tenant, body.columns())
    await gateway.model_written(caller.tenant, entry.name)
    return ModelView.of(entry)


@router.get("", response_model=list[ModelView], responses=PAGE)
async def list_models(
    gateway: GatewayDep, caller: CallerDep, after: After = "", limit: Limit = 200
) -> Response:
    """By name, `limit` at most. Where there are more, `Link` has the address of the next page."""
    page = await gateway.lists.page(caller.tenant, after, limit)
    headers = {"Link": next_link(PATH, page.items[-1].name, limit)} if page.has_more else None
    body = await json_list(page.items, lambda entry: ModelView.of(entry).model_dump_json())
    return Response(body, headers=headers, media_type="application/json")


@router.get("/{name:path}")
async def get_model(name: str, gateway: GatewayDep, caller: CallerDep) -> ModelDetail:
    """With what it cost lately, how it kept its SLO, and what was prefetched for it."""
    entry = await gateway.registry.latest(caller.tenant, name)
    use = await recent_use(gateway.usage, entry)
    # Without an answer the second question would be in vain, too, and take as long.
    prefetches = None if use is None else await recent_prefetches(gateway.views, entry)
    return ModelDetail(**ModelView.of(entry).model_dump(), usage=use, prefetches=prefetches)


@router.patch("/{name:path}")
async def change_model(
    name: str, body: ModelChange, gateway: GatewayDep, caller: CallerDep
) -> ModelView:
    """Settings apply to endpoints that start from now on, and to the queue at once. A longer
    context replaces the endpoints that have a shorter one, once they have answered what they run.
    """
    known = await gateway.registry.find(caller.tenant, name)
    if body.public not in (None, known.is_public):
        raise Conflict(_FIXED_OWNER, code="public_is_fixed", param="public")
    check_engine(body.engine)
    await _check_template(body.chat_template, gateway, caller)
    values = body.columns()
    changed = replace(known, **values)
    check_pin(caller, changed.min_endpoints, known.min_endpoints)
    check_endpoints(changed.min_endpoints, changed.max_endpoints)
    check_kv_cache(changed)
    check_pipeline(changed.min_pipeline_size, changed.max_pipeline_size)
    check_full_workers(changed.full_memory_workers, changed.max_pipeline_size)
    entry = await gateway.models.change(known.model_id, values) if values else known
    if entry is None:
        message = f"the model {name!r} does not exist"
        raise NotServed(message, Reason.MODEL_NOT_FOUND, param="name")
    await gateway.model_written(caller.tenant, name)
    return ModelView.of(entry)


@router.delete("/{name:path}", status_code=202)
async def delete_model(name: str, gateway: GatewayDep, caller: CallerDep) -> None:
    """Its name is free at once; its endpoints end what they run."""
    known = await gateway.registry.find(caller.tenant, name)
    await gateway.models.delete(known.model_id)
    await gateway.model_written(caller.tenant, name)


async def _check_template(template: str | None, gateway: Gateway, caller: Caller) -> None:
    """Raises InvalidRequest for one that cannot be a chat template."""
    if template is not None:
        await check_template(gateway.preparer.templates, template, caller.tenant)
