"""Limits what each tenant's requests hold in this gateway: open requests, and bytes that wait.

A request with a body is open from the check of its key to its end, whatever it waits for
meanwhile. Its bytes are those of its body, as they arrive, and once that is tokenized those of its
tokens: memory holds them until it has ended.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from libs.common.reasons import Reason
from libs.common.tenant_shares import TenantShares
from services.gateway.errors import ApiError, NotServed, TenantLimited

RETRY_AFTER_S = 1
TOKEN_BYTES = 4  # of a prompt, as it waits


@dataclass
class _Budget:
    """Something of which all tenants together may hold `total`."""

    total: int
    shares: TenantShares
    held: Counter[str] = field(default_factory=Counter)
    held_by_all: int = 0

    def limit(self, tenant: str) -> int:
        return self.shares.limit(tenant, self.total, self.held_by_all - self.held[tenant])

    def is_full(self, amount: int) -> bool:
        return self.held_by_all + amount > self.total

    def allows(self, tenant: str, amount: int) -> bool:
        """A tenant that holds nothing may have one thing of any size that there is room for."""
        held = self.held[tenant]
        return held == 0 or held + amount <= self.limit(tenant)

    def add(self, tenant: str, amount: int) -> None:
        self.held_by_all += amount
        self.held[tenant] += amount
        if not self.held[tenant]:
            del self.held[tenant]


class HeldByRequest:
    """What one request holds; `TenantLimits.admitted` gives it all back."""

    def __init__(self, limits: "TenantLimits", tenant: str) -> None:
        self._limits, self._tenant = limits, tenant
        self.num_bytes = 0
        self.num_open = 1

    def hold_open(self, num_prompts: int) -> None:
        """Each prompt counts as a request. Raises ApiError when the tenant may not have so many."""
        while self.num_open < num_prompts:
            self._limits.check_open(self._tenant)
            self._limits.open_requests.add(self._tenant, 1)
            self.num_open += 1

    def hold_body(self, num_bytes: int) -> None:
        """So many bytes of its body in all. Raises ApiError when the tenant holds too many."""
        more = num_bytes - self.num_bytes
        if more > 0:
            self._limits.check_bytes(self._tenant, more)
            self._hold(more)

    def hold_prompt(self, num_tokens: int) -> None:
        """Instead of the body, of which nobody holds anything any more: the context bounds the
        prompt, so it is counted and not refused."""
        self._hold(num_tokens * TOKEN_BYTES - self.num_bytes)

    def _hold(self, more: int) -> None:
        self._limits.waiting_bytes.add(self._tenant, more)
        self.num_bytes += more


class TenantLimits:
    """Counts for all requests of this process; no I/O."""

    def __init__(
        self, shares: TenantShares, *, max_open_requests: int, max_waiting_bytes: int
    ) -> None:
        self.open_requests = _Budget(max_open_requests, shares)
        self.waiting_bytes = _Budget(max_waiting_bytes, shares)

    @contextmanager
    def admitted(self, tenant: str) -> Iterator[HeldByRequest]:
        """While the block runs the request is open. Raises ApiError when it may not be."""
        self.check_open(tenant)
        held = HeldByRequest(self, tenant)
        self.open_requests.add(tenant, 1)
        try:
            yield held
        finally:
            self.open_requests.add(tenant, -held.num_open)
            self.waiting_bytes.add(tenant, -held.num_bytes)

    def check_open(self, tenant: str) -> None:
        budget = self.open_requests
        if budget.is_full(1):
            message = f"this gateway serves {budget.held_by_all} requests already, the most it may"
            raise _full(message)
        if not budget.allows(tenant, 1):
            raise self._limited(tenant, f"{budget.held[tenant]} requests of your tenant are open")

    def check_bytes(self, tenant: str, more: int) -> None:
        """Raises ApiError when so many more may not be held."""
        budget = self.waiting_bytes
        if budget.is_full(more):
            raise _full("this gateway holds as many bytes of requests as it may")
        if not budget.allows(tenant, more):
            message = (
                f"open requests of your tenant hold {budget.held[tenant]} bytes, and "
                f"{more} more would be over its limit of {budget.limit(tenant)}"
            )
            raise self._limited(tenant, message)

    def _limited(self, tenant: str, message: str) -> ApiError:
        limit = self.open_requests.limit(tenant)
        return TenantLimited(
            f"{message}: try again when some have ended", limit=limit, retry_after_s=RETRY_AFTER_S
        )


def _full(message: str) -> ApiError:
    return NotServed(message, Reason.GATEWAY_FULL, retry_after_s=RETRY_AFTER_S)
