"""What runs and what happened: cold starts with their timelines, endpoints, nodes, requests."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import TypeAdapter

from services.gateway.api.pages import json_list
from services.gateway.api.timelines import ColdStartTimeline, timeline_of
from services.gateway.context import CallerDep, GatewayDep
from services.gateway.errors import NotFound
from services.gateway.store.nodes import NodeView
from services.gateway.store.views import ColdStartView, EndpointView, RequestView
from services.gateway.text.validity import StoredText

_NODE = TypeAdapter(NodeView)
router = APIRouter(prefix="/api/v1", tags=["observation"])


@router.get("/cold-starts")
async def list_cold_starts(
    gateway: GatewayDep,
    caller: CallerDep,
    model: StoredText | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[ColdStartView]:
    """The newest first."""
    return list(await gateway.views.cold_starts(caller.tenant, model, limit))


@router.get("/cold-starts/{cold_start_id}")
async def get_cold_start(
    cold_start_id: StoredText, gateway: GatewayDep, caller: CallerDep
) -> ColdStartTimeline:
    """Every step with who did it and when, the path everybody waited for, and what it went to."""
    found = await gateway.views.cold_start(caller.tenant, cold_start_id)
    if found is None:
        raise NotFound(f"there is no cold start {cold_start_id!r}", code="not_found")
    return timeline_of(found)


@router.get("/endpoints")
async def list_endpoints(
    gateway: GatewayDep, caller: CallerDep, ended: bool = False
) -> list[EndpointView]:
    """Those that live, or with `ended` those that do not any more."""
    return list(await gateway.views.endpoints(caller.tenant, has_ended=ended))


@router.get("/nodes", response_model=list[NodeView])
async def list_nodes(gateway: GatewayDep, caller: CallerDep) -> Response:
    nodes = await gateway.nodes.read_all(caller.tenant)
    body = await json_list(nodes, lambda node: _NODE.dump_json(node).decode())
    return Response(body, media_type="application/json")


@router.get("/requests/{request_id}")
async def get_request(
    request_id: StoredText, gateway: GatewayDep, caller: CallerDep
) -> RequestView:
    """`X-Request-Id` of every response names it. A warm request's row may be 100 ms late."""
    found = await gateway.views.request(caller.tenant, request_id)
    if found is None:
        raise NotFound(f"there is no request {request_id!r}", code="not_found")
    return found
