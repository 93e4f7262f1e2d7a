"""What models cost and how they keep their SLOs: /api/v1/usage, /api/v1/requests."""

from typing import Annotated

from fastapi import APIRouter, Query

from libs.common.states import SloMiss
from services.gateway.api.schemas import Tenant
from services.gateway.api.tenants import check_tenant
from services.gateway.auth import Caller
from services.gateway.context import CallerDep, GatewayDep
from services.gateway.store.asked_requests import AskedRequests
from services.gateway.store.usage_views import DayUsage, UsageReport
from services.gateway.store.views import RequestSummary
from services.gateway.text.validity import StoredText

router = APIRouter(prefix="/api/v1", tags=["usage"])
_SEE = "see usage and requests"

Hours = Annotated[
    int, Query(ge=1, le=24 * 31, description="From the beginning of the hour so many hours ago")
]
Days = Annotated[int, Query(ge=1, le=3660, description="UTC, today with them")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most")]
OfTenant = Annotated[Tenant | None, Query(description="Another tenant's: operators only")]


@router.get("/usage")
async def get_usage(
    gateway: GatewayDep,
    caller: CallerDep,
    hours: Hours = 24,
    limit: Limit = 200,
    tenant: OfTenant = None,
) -> UsageReport:
    """Of each model the device memory x time that its endpoints had reserved, up to now, and how
    many of its requests met their SLO. What costs most comes first. An operator sees everybody's,
    or those of the tenant that they name."""
    return await gateway.usage.report(_whose(caller, tenant), hours, limit)


@router.get("/usage/days")
async def get_usage_by_day(
    gateway: GatewayDep,
    caller: CallerDep,
    days: Days = 30,
    limit: Limit = 1000,
    tenant: OfTenant = None,
) -> list[DayUsage]:
    """Requests, tokens and device memory x time of each model and day, the newest day first. It is
    kept for ever."""
    return list(await gateway.usage.days(_whose(caller, tenant), days, limit))


@router.get("/requests")
async def list_requests(
    gateway: GatewayDep,
    caller: CallerDep,
    model: StoredText | None = None,
    missed: Annotated[bool, Query(description="Only those that missed their SLO")] = False,
    reason: Annotated[SloMiss | None, Query(description="Only those that did for it")] = None,
    hours: Hours = 24,
    limit: Limit = 50,
    tenant: OfTenant = None,
) -> list[RequestSummary]:
    """The newest first, with what they took, what their SLO allowed, and why they missed it. Of
    the caller's tenant, or of the one that an operator names."""
    check_tenant(caller, tenant, _SEE)
    asked = AskedRequests(model, missed, reason, hours, limit)
    return list(await gateway.views.requests(tenant or caller.tenant, asked))


def _whose(caller: Caller, tenant: str | None) -> str | None:
    """None: everybody's. Raises Forbidden."""
    check_tenant(caller, tenant, _SEE)
    return tenant if caller.is_operator else caller.tenant
