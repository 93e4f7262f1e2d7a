"""A bounded cache that is fair between tenants."""

import random

from services.gateway.registry.fair_cache import FairCache
from services.gateway.store.model_entry import ModelKey


def names(cache: FairCache[int]) -> list[str]:
    return [key.name for key in cache.keys()]


def key(name: str, tenant: str = "acme") -> ModelKey:
    return ModelKey(tenant, name)


def test_the_one_used_least_lately_goes_first() -> None:
    cache: FairCache[int] = FairCache(3)
    for name in "abc":
        cache.put(key(name), 1)
    cache.use(key("a"))

    cache.put(key("d"), 1)

    assert sorted(names(cache)) == ["a", "c", "d"]
    assert cache.has_dropped


def test_a_tenant_with_many_gives_up_its_own() -> None:
    cache: FairCache[int] = FairCache(10)
    cache.put(key("few", "other"), 1)
    for i in range(50):
        cache.put(key(f"many-{i}"), 1)

    assert cache.get(key("few", "other")) == 1
    assert len(cache) == 10


def test_what_nobody_asked_for_pushes_nothing_out() -> None:
    cache: FairCache[int] = FairCache(2)
    cache.put(key("a"), 1)

    assert cache.refresh(key("b"), 1)
    assert not cache.refresh(key("c"), 1)
    cache.put(key("d"), 1)

    assert sorted(names(cache)) == ["a", "d"], "what nobody asked for goes first"


def test_a_refreshed_one_keeps_its_place() -> None:
    cache: FairCache[int] = FairCache(2)
    cache.put(key("a"), 1)
    cache.put(key("b"), 1)
    cache.refresh(key("a"), 7)

    cache.put(key("c"), 1)

    assert sorted(names(cache)) == ["b", "c"]


def test_whatever_is_done_the_sizes_are_those_of_the_values_and_bounded() -> None:
    random_ = random.Random(1)
    cache: FairCache[int] = FairCache(40, lambda value: value)
    for _ in range(5000):
        some = key(str(random_.randrange(30)), random_.choice("abc"))
        match random_.randrange(4):
            case 0:
                cache.put(some, random_.randrange(1, 9))
            case 1:
                cache.refresh(some, random_.randrange(1, 9))
            case 2:
                cache.remove(some)
            case _:
                cache.use(some)
        kept = [value for tenant in "abc" for value in cache.of_tenant(tenant)]
        assert cache.size == sum(kept) <= 40
        assert sorted(kept) == sorted(cache.latest())
