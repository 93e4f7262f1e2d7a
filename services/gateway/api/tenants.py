"""Whose things a caller may see, and what only operators may do."""

from services.gateway.auth import Caller
from services.gateway.errors import Forbidden


def check_tenant(caller: Caller, tenant: str | None, what: str) -> None:
    """Raises Forbidden where the caller names another tenant than its own and is no operator."""
    if tenant not in (None, caller.tenant) and not caller.is_operator:
        message = f"only an operator's key may {what} of the tenant {tenant!r}"
        raise Forbidden(message, code="forbidden", param="tenant")


def check_pin(caller: Caller, min_endpoints: int, known: int = 0) -> None:
    """Raises Forbidden where more endpoints shall be kept than are known to be, by somebody who is
    no operator: nobody could ever have their room."""
    if min_endpoints > known and not caller.is_operator:
        message = (
            f"only an operator's key may raise 'min_endpoints', here to {min_endpoints}: such"
            " endpoints give way to nobody; leave it out, and preload the model when it is needed"
        )
        raise Forbidden(message, code="forbidden", param="min_endpoints")
