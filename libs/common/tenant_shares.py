"""How much of what all tenants share one of them may hold. Pure.

A tenant may hold a fixed part of what the others leave. So one alone never holds everything, two
that want all get less each, and whoever comes next always finds room. It is the dynamic threshold
of Choudhury and Hahne ("Dynamic queue length thresholds for shared-memory packet switches", 1998).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.common.errors import SettingsError
from libs.common.settings import Environment

DEFAULT_PERCENT = 50
_PERCENT_KEY = "TENANT_SHARE_PERCENT"
_BY_TENANT_KEY = "TENANT_SHARES"


@dataclass(frozen=True)
class TenantShares:
    """Percentages of what others leave: of each tenant, and of those that are named."""

    percent: int = DEFAULT_PERCENT
    by_tenant: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, env: Environment) -> "TenantShares":
        """Raises SettingsError."""
        percent = env.integer(_PERCENT_KEY, DEFAULT_PERCENT, minimum=1)
        if percent > 100:
            raise SettingsError(env.prefix + _PERCENT_KEY, str(percent), "1 to 100")
        return cls(percent, _by_tenant(env))

    def limit(self, tenant: str, total: int, held_by_others: int) -> int:
        """The most that the tenant may hold now; at least 1 while anything is free."""
        left = max(0, total - held_by_others)
        return -(-left * self.by_tenant.get(tenant, self.percent) // 100)


def _by_tenant(env: Environment) -> dict[str, int]:
    text = env.optional_text(_BY_TENANT_KEY) or ""
    shares = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        tenant, _, percent = part.rpartition("=")
        if not tenant or not percent.isdigit() or not 1 <= int(percent) <= 100:
            expected = "tenants with percentages, such as acme=80,batch=10"
            raise SettingsError(env.prefix + _BY_TENANT_KEY, text, expected)
        shares[tenant] = int(percent)
    return shares
