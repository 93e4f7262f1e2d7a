"""API keys are known by their hash, cached, and usable while Postgres is away."""

import asyncio

import pytest

from libs.common.reasons import Reason
from libs.common.testing.bus import FakeClock
from services.gateway import auth
from services.gateway.auth import FRESH_S, STALE_S, Authenticator, hash_key, new_key
from services.gateway.errors import Unauthorized
from tests.unit.gateway.reasons import not_served
from tests.unit.gateway.stores import KEY, FakeKeys
from tests.unit.gateway.tiny import TENANT

HEADER = f"Bearer {KEY}"


async def test_a_known_key_is_its_tenant_and_asked_for_once() -> None:
    keys = FakeKeys()
    authenticator = Authenticator(keys, FakeClock())

    callers = [await authenticator.authenticate(HEADER) for _ in range(5)]

    assert {caller.tenant for caller in callers} == {TENANT}
    assert keys.num_lookups == 1


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer  ", f"Basic {KEY}", KEY, "Bearer x", "Bearer é"]
)
async def test_any_other_header_is_unauthorized(header: str | None) -> None:
    with pytest.raises(Unauthorized):
        await Authenticator(FakeKeys(), FakeClock()).authenticate(header)


async def test_a_key_that_was_tried_before_it_was_made_works_at_once() -> None:
    keys = FakeKeys()
    authenticator = Authenticator(keys, FakeClock())
    with pytest.raises(Unauthorized):
        await authenticator.authenticate("Bearer early")

    keys.known[hash_key("early")] = keys.known[hash_key(KEY)]

    assert (await authenticator.authenticate("Bearer early")).tenant == TENANT


async def test_an_awaited_key_is_neither_refused_nor_accepted_before_its_row_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auth, "ROW_TIMEOUT_S", 0.01)
    keys = FakeKeys()
    authenticator = Authenticator(keys, FakeClock())
    authenticator.await_row(hash_key(KEY))

    with not_served(Reason.DATABASE_UNAVAILABLE) as caught:
        await authenticator.authenticate(HEADER)
    authenticator.row_written(hash_key(KEY))

    assert caught.value.retry_after_s is not None
    assert (await authenticator.authenticate(HEADER)).tenant == TENANT
    assert keys.num_lookups == 1


async def test_who_uses_an_awaited_key_waits_for_its_row() -> None:
    authenticator = Authenticator(FakeKeys(), FakeClock())
    authenticator.await_row(hash_key(KEY))
    asking = asyncio.create_task(authenticator.authenticate(HEADER))
    await asyncio.sleep(0)
    assert not asking.done()

    authenticator.row_written(hash_key(KEY))

    assert (await asyncio.wait_for(asking, 10)).tenant == TENANT


async def test_a_revoked_key_ends_when_its_cache_entry_does_or_is_forgotten() -> None:
    keys, clock = FakeKeys(), FakeClock()
    authenticator = Authenticator(keys, clock)
    await authenticator.authenticate(HEADER)
    revoked = keys.known.pop(hash_key(KEY))
    await authenticator.authenticate(HEADER)

    clock.advance(FRESH_S)
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(HEADER)

    keys.known[hash_key(KEY)] = revoked
    authenticator.forget(hash_key(KEY))
    assert await authenticator.authenticate(HEADER)


async def test_known_keys_outlive_postgres_for_a_while_without_asking_it_each_time() -> None:
    keys, clock = FakeKeys(), FakeClock()
    authenticator = Authenticator(keys, clock)
    await authenticator.authenticate(HEADER)
    keys.is_down = True

    clock.advance(FRESH_S)
    for _ in range(5):
        await authenticator.authenticate(HEADER)
    assert keys.num_lookups == 2

    clock.advance(STALE_S)
    with not_served(Reason.DATABASE_UNAVAILABLE):
        await authenticator.authenticate(HEADER)


async def test_an_unseen_key_cannot_be_judged_without_postgres() -> None:
    with not_served(Reason.DATABASE_UNAVAILABLE) as refused:
        await Authenticator(FakeKeys(is_down=True), FakeClock()).authenticate(HEADER)

    assert refused.value.status == 503


def test_new_keys_differ_and_can_be_recognised() -> None:
    keys = {new_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(key.startswith("hs-") and len(key) == 43 for key in keys)
