"""A queue that is fair between tenants. No threads, no I/O."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Tenants are taken from round-robin, the items of each in order of arrival: one tenant's many
    items only delay each other."""

    def __init__(self) -> None:
        # The tenant that comes next is first; none is without an item.
        self._by_tenant: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._by_tenant.values()))

    def __bool__(self) -> bool:
        return bool(self._by_tenant)

    def num_of(self, tenant: str) -> int:
        return len(self._by_tenant.get(tenant, ()))

    def longest(self) -> tuple[str, int]:
        """The tenant with the most items, and how many; only where there is one."""
        tenant = max(self._by_tenant, key=self.num_of)
        return tenant, self.num_of(tenant)

    def put(self, tenant: str, item: Item) -> None:
        self._by_tenant.setdefault(tenant, deque()).append(item)

    def take(self) -> Item:
        """The next one; only where there is one."""
        tenant, items = next(iter(self._by_tenant.items()))
        item = items.popleft()
        if items:
            self._by_tenant.move_to_end(tenant)
        else:
            del self._by_tenant[tenant]
        return item

    def take_last(self, tenant: str) -> Item:
        """The one of this tenant that came last; only where there is one."""
        item = self._by_tenant[tenant].pop()
        self._forget_empty(tenant)
        return item

    def remove(self, tenant: str, item: Item) -> None:
        """Nothing when it was taken already."""
        items = self._by_tenant.get(tenant)
        if items is not None and item in items:
            items.remove(item)
            self._forget_empty(tenant)

    def _forget_empty(self, tenant: str) -> None:
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]
