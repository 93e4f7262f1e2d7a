"""API keys: /api/v1/api-keys."""

from fastapi import APIRouter

from libs.common.ids import new_id
from services.gateway.api.schemas import CreatedKey, KeyView, NewKey
from services.gateway.auth import hash_key, new_key
from services.gateway.context import CallerDep, GatewayDep
from services.gateway.errors import Forbidden, NotFound
from services.gateway.text.validity import StoredText

router = APIRouter(prefix="/api/v1/api-keys", tags=["API keys"])


@router.post("", status_code=201)
async def create_key(body: NewKey, gateway: GatewayDep, caller: CallerDep) -> CreatedKey:
    """For the caller's own tenant; operators may make keys for others."""
    tenant = body.tenant or caller.tenant
    if tenant != caller.tenant and not caller.is_operator:
        message = f"only an operator's key may make keys for the tenant {tenant!r}"
        raise Forbidden(message, code="forbidden", param="tenant")
    key = new_key()
    info = await gateway.keys.create(new_id("key"), tenant, body.name, hash_key(key))
    return CreatedKey(**KeyView.of(info).model_dump(), key=key)


@router.get("")
async def list_keys(gateway: GatewayDep, caller: CallerDep) -> list[KeyView]:
    return [KeyView.of(info) for info in await gateway.keys.list_of(caller.tenant)]


@router.delete("/{key_id}", status_code=204)
async def revoke_key(key_id: StoredText, gateway: GatewayDep, caller: CallerDep) -> None:
    """Works at once here, and within 10 s on every other gateway."""
    key_sha256 = await gateway.keys.revoke(caller.tenant, key_id)
    if key_sha256 is None:
        raise NotFound(f"there is no key {key_id!r}", code="not_found", param="key_id")
    gateway.authenticator.forget(key_sha256)
