"""What one tenant may hold of what all share."""

import pytest

from libs.common.errors import SettingsError
from libs.common.settings import Environment
from libs.common.tenant_shares import TenantShares


@pytest.mark.parametrize(
    ("total", "held_by_others", "limit", "why"),
    [
        (100, 0, 50, "alone a tenant leaves as much as it takes"),
        (100, 50, 25, "beside one that took all it may"),
        (100, 99, 1, "whoever holds nothing yet finds room"),
        (1, 0, 1, "also where there is room for one only"),
        (100, 100, 0, "nothing is free"),
        (100, 130, 0, "the total was lowered meanwhile"),
    ],
)
def test_a_tenant_may_hold_a_part_of_what_others_leave(
    total: int, held_by_others: int, limit: int, why: str
) -> None:
    assert TenantShares().limit("acme", total, held_by_others) == limit, why


def test_tenants_that_all_want_everything_leave_room_for_one_more() -> None:
    shares, held = TenantShares(), {"a": 0, "b": 0, "c": 0}
    for _ in range(1000):
        for tenant, own in held.items():
            if own < shares.limit(tenant, 1000, sum(held.values()) - own):
                held[tenant] += 1

    assert max(held.values()) - min(held.values()) <= 1
    assert shares.limit("newcomer", 1000, sum(held.values())) >= 100


def test_shares_are_the_operators() -> None:
    env = {"HYDRA_TENANT_SHARE_PERCENT": "20", "HYDRA_TENANT_SHARES": "acme=80, b=c=100,"}
    shares = TenantShares.read(Environment(env))

    limits = [shares.limit(tenant, 100, 0) for tenant in ("acme", "b=c", "other")]

    assert limits == [80, 100, 20]
    assert TenantShares.read(Environment({})) == TenantShares()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("TENANT_SHARE_PERCENT", "0"),
        ("TENANT_SHARE_PERCENT", "101"),
        ("TENANT_SHARES", "acme"),
        ("TENANT_SHARES", "=5"),
        ("TENANT_SHARES", "acme=0"),
        ("TENANT_SHARES", "acme=5.5"),
    ],
)
def test_a_share_that_is_none_ends_the_start(key: str, text: str) -> None:
    with pytest.raises(SettingsError, match=key):
        TenantShares.read(Environment({f"HYDRA_{key}": text}))
