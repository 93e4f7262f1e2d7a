"""Whose things a caller may see."""

from services.gateway.auth import Caller
from services.gateway.errors import Forbidden


def check_tenant(caller: Caller, tenant: str | None, what: str) -> None:
    """Raises Forbidden where the caller names another tenant than its own and is no operator."""
    if tenant not in (None, caller.tenant) and not caller.is_operator:
        message = f"only an operator's key may {what} of the tenant {tenant!r}"
        raise Forbidden(message, code="forbidden", param="tenant")
