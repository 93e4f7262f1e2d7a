"""API keys: /api/v1/api-keys."""

from fastapi import APIRouter

from libs.common.ids import new_id
from services.gateway.api.schemas import CreatedKey, KeyView, NewKey, Tenant
from services.gateway.api.tenants import check_tenant
from services.gateway.auth import hash_key, new_key
from services.gateway.context import CallerDep, GatewayDep
from services.gateway.errors import NotFound
from services.gateway.text.validity import StoredText

router = APIRouter(prefix="/api/v1/api-keys", tags=["API keys"])
_SEE_AND_MAKE = "see and make keys"


@router.post("", status_code=201)
async def create_key(body: NewKey, gateway: GatewayDep, caller: CallerDep) -> CreatedKey:
    """For the caller's own tenant; operators may make keys for others."""
    check_tenant(caller, body.tenant, _SEE_AND_MAKE)
    tenant = body.tenant or caller.tenant
    key = new_key()
    info = await gateway.keys.create(new_id("key"), tenant, body.name, hash_key(key))
    return CreatedKey(**KeyView.of(info).model_dump(), key=key)


@router.get("")
async def list_keys(
    gateway: GatewayDep, caller: CallerDep, tenant: Tenant | None = None
) -> list[KeyView]:
    """Those that were not revoked, never with the key itself: the caller's tenant's; for operators
    everybody's, or those of the tenant that they name."""
    check_tenant(caller, tenant, _SEE_AND_MAKE)
    owner = tenant if caller.is_operator else caller.tenant
    return [KeyView.of(info) for info in await gateway.keys.list_of(owner)]


@router.delete("/{key_id}", status_code=204)
async def revoke_key(key_id: StoredText, gateway: GatewayDep, caller: CallerDep) -> None:
    """One of the caller's tenant; operators may revoke anybody's. Works at once here, and within
    10 s on every other gateway."""
    owner = None if caller.is_operator else caller.tenant
    key_sha256 = await gateway.keys.revoke(owner, key_id)
    if key_sha256 is None:
        raise NotFound(f"there is no key {key_id!r}", code="not_found", param="key_id")
    gateway.authenticator.forget(key_sha256)
