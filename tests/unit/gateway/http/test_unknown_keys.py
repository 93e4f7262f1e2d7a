"""Whoever tries keys that nobody has made neither fills the pool nor delays those who have one."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from libs.common.reasons import Reason
from libs.common.testing.bus import FakeClock
from services.gateway.auth import FRESH_S, MAX_LOOKED_UP, Authenticator, Caller, hash_key
from services.gateway.errors import NotServed, Unauthorized
from services.gateway.fair_semaphore import MAX_WAITING_EACH
from services.gateway.key_lookup import KeyLookup
from services.gateway.store.keys import KeyInfo
from tests.support.waiting import eventually
from tests.unit.gateway.stores import KEY, FakeKeys
from tests.unit.gateway.tiny import NOW, TENANT

Tries = list["asyncio.Task[Caller]"]


@contextmanager
def flood(authenticator: Authenticator, num_keys: int) -> Iterator[Tries]:
    """So many unknown keys at once, of one client."""
    tries = [
        asyncio.create_task(authenticator.authenticate(f"Bearer guess-{n}", "stranger"))
        for n in range(num_keys)
    ]
    try:
        yield tries
    finally:
        for attempt in tries:
            attempt.cancel()


async def until_asking(keys: FakeKeys) -> None:
    """Answers are held back: one statement is on its way, and the next guesses wait."""
    await eventually(lambda: keys.num_lookups == 1, what="the first statement")


async def test_however_many_unknown_keys_there_are_they_take_one_connection() -> None:
    keys = FakeKeys()
    keys.is_answering.clear()
    authenticator = Authenticator(keys, FakeClock())
    with flood(authenticator, 100) as tries:
        await until_asking(keys)
        for _ in range(10):
            await asyncio.sleep(0)
        assert keys.num_lookups == 1

        keys.is_answering.set()
        results = await asyncio.gather(*tries, return_exceptions=True)

    assert all(isinstance(result, Unauthorized) for result in results)
    assert sorted(keys.asked) == sorted(hash_key(f"guess-{n}") for n in range(100))
    assert keys.num_lookups < 10


async def test_known_keys_are_read_again_beside_a_flood_of_unknown_ones() -> None:
    keys, clock = FakeKeys(), FakeClock()
    authenticator = Authenticator(keys, clock)
    await authenticator.authenticate(f"Bearer {KEY}")
    clock.advance(FRESH_S)
    authenticator._other_keys = KeyLookup(held := FakeKeys())
    held.is_answering.clear()  # statements for unknown keys do not end

    with flood(authenticator, 200):
        await until_asking(held)
        assert (await authenticator.authenticate(f"Bearer {KEY}")).tenant == TENANT
    assert keys.num_lookups == 2


async def test_a_key_that_is_new_here_comes_before_a_strangers_many_guesses() -> None:
    keys = FakeKeys()
    keys.known[hash_key("new")] = KeyInfo("key-2", "other", "test", NOW)
    keys.is_answering.clear()
    authenticator = Authenticator(keys, FakeClock())
    with flood(authenticator, MAX_LOOKED_UP + MAX_WAITING_EACH) as tries:
        await until_asking(keys)
        mine = asyncio.create_task(authenticator.authenticate("Bearer new", "somebody"))
        await asyncio.sleep(0)
        keys.is_answering.set()

        assert (await mine).tenant == "other"
        assert not all(attempt.done() for attempt in tries)


async def test_of_one_address_only_so_many_may_wait() -> None:
    keys = FakeKeys()
    keys.is_answering.clear()
    authenticator = Authenticator(keys, FakeClock())
    with flood(authenticator, MAX_LOOKED_UP + MAX_WAITING_EACH):
        await until_asking(keys)
        with pytest.raises(NotServed) as refused:
            await authenticator.authenticate("Bearer one-more", "stranger")

    assert refused.value.reason is Reason.GATEWAY_FULL
    assert refused.value.headers["Retry-After"]


async def test_one_who_leaves_takes_nobodys_answer_along() -> None:
    keys = FakeKeys()
    keys.is_answering.clear()
    lookup = KeyLookup(keys)
    leaving, staying = (asyncio.create_task(lookup.find(hash_key(KEY))) for _ in range(2))
    await until_asking(keys)
    leaving.cancel()
    await asyncio.wait({leaving})
    keys.is_answering.set()

    info = await staying
    assert info is not None and info.tenant == TENANT


async def test_an_outage_is_told_to_all_who_asked_and_the_next_ones_ask_again() -> None:
    keys = FakeKeys(is_down=True)
    authenticator = Authenticator(keys, FakeClock())
    with flood(authenticator, 5) as tries:
        results = await asyncio.gather(*tries, return_exceptions=True)
    assert {getattr(result, "reason", None) for result in results} == {Reason.DATABASE_UNAVAILABLE}

    keys.is_down = False
    assert (await authenticator.authenticate(f"Bearer {KEY}")).tenant == TENANT
