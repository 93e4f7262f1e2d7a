"""A cache by tenant and name, bounded, and fair between tenants. No I/O."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from services.gateway.store.model_entry import ModelKey

Value = TypeVar("Value")


class FairCache(Generic[Value]):
    """Values whose sizes are `max_size` together at most. When they are more, the tenant that has
    most gives up the one that was used least lately: nobody's many names push out another's few.
    """

    def __init__(self, max_size: int, size_of: Callable[[Value], int] = lambda _value: 1) -> None:
        self._max_size, self._size_of = max_size, size_of
        self._values: OrderedDict[ModelKey, Value] = OrderedDict()  # the least lately used first
        self._keys: dict[str, OrderedDict[ModelKey, int]] = {}  # by tenant likewise, with sizes
        self._sizes: Counter[str] = Counter()  # by tenant
        self.size = 0
        self.has_dropped = False  # ever, for lack of room

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: ModelKey) -> bool:
        return key in self._values

    def get(self, key: ModelKey) -> Value | None:
        """It is used no more lately for that."""
        return self._values.get(key)

    def use(self, key: ModelKey) -> Value | None:
        if key in self._values:
            self._move(key, is_latest=True)
        return self._values.get(key)

    def put(self, key: ModelKey, value: Value) -> None:
        """As the one used last."""
        self._store(key, value)
        self._move(key, is_latest=True)
        self._make_room()

    def refresh(self, key: ModelKey, value: Value) -> bool:
        """In the place of the one that is there; else as the one used least lately, where there is
        room. Whether it is there now."""
        if key not in self._values:
            if self.size + self._size_of(value) > self._max_size:
                self.has_dropped = True
                return False
            self._store(key, value)
            self._move(key, is_latest=False)
            return True
        self._store(key, value)
        self._make_room()
        return key in self._values

    def remove(self, key: ModelKey) -> None:
        if key not in self._values:
            return
        del self._values[key]
        keys = self._keys[key.tenant]
        self._resize(key.tenant, -keys.pop(key))
        if not keys:
            del self._keys[key.tenant]

    def of_tenant(self, tenant: str) -> Iterator[Value]:
        """In no order that means anything."""
        return (self._values[key] for key in self._keys.get(tenant, ()))

    def keys(self) -> tuple[ModelKey, ...]:
        return tuple(self._values)

    def latest(self) -> Iterator[Value]:
        """From the one used last backwards."""
        return reversed(self._values.values())

    def _store(self, key: ModelKey, value: Value) -> None:
        keys = self._keys.setdefault(key.tenant, OrderedDict())
        size = self._size_of(value)
        self._resize(key.tenant, size - keys.get(key, 0))
        self._values[key], keys[key] = value, size

    def _move(self, key: ModelKey, *, is_latest: bool) -> None:
        self._values.move_to_end(key, last=is_latest)
        self._keys[key.tenant].move_to_end(key, last=is_latest)

    def _make_room(self) -> None:
        while self.size > self._max_size and len(self._values) > 1:
            largest = max(self._sizes, key=lambda tenant: self._sizes[tenant])
            self.remove(next(iter(self._keys[largest])))
            self.has_dropped = True

    def _resize(self, tenant: str, more: int) -> None:
        self.size += more
        self._sizes[tenant] += more
        if not self._sizes[tenant]:
            del self._sizes[tenant]
