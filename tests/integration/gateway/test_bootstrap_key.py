"""The operator's first key, as each start of a gateway writes it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from libs.common.records.database import Database
from libs.common.tenants import OPERATOR_TENANT
from services.gateway.auth import hash_key
from services.gateway.store.keys import KeyStore
from tests.integration.servers import TestDatabase

FIRST, SECOND = hash_key("hs-first"), hash_key("hs-second")


@pytest_asyncio.fixture
async def keys(database: TestDatabase) -> AsyncIterator[KeyStore]:
    gateway = Database.open(database.gateway)
    yield KeyStore(gateway)
    await gateway.close()


async def test_it_is_one_key_however_often_it_is_written(keys: KeyStore) -> None:
    written = [await keys.put_bootstrap(FIRST) for _ in range(3)]

    assert await keys.list_of(OPERATOR_TENANT) == (written[0],)
    assert await keys.find_all([FIRST, SECOND]) == {FIRST: written[0]}
    assert written[0] == written[2]


async def test_a_revoked_key_stays_revoked_and_a_new_value_works(keys: KeyStore) -> None:
    first = await keys.put_bootstrap(FIRST)
    assert first is not None
    await keys.revoke(OPERATOR_TENANT, first.key_id)

    again = await keys.put_bootstrap(FIRST)
    second = await keys.put_bootstrap(SECOND)

    assert again is None
    assert not await keys.find_all([FIRST])
    assert await keys.find_all([FIRST, SECOND]) == {SECOND: second}
    assert await keys.put_bootstrap(FIRST) is None  # a gateway that has the old file yet
    assert await keys.list_of(OPERATOR_TENANT) == (second,)


async def test_a_changed_file_revokes_what_it_held_before_and_no_other_key(keys: KeyStore) -> None:
    other = await keys.create("key-1", OPERATOR_TENANT, "bootstrap", hash_key("hs-other"))
    await keys.put_bootstrap(FIRST)

    second = await keys.put_bootstrap(SECOND)

    assert not await keys.find_all([FIRST])
    assert set(await keys.list_of(OPERATOR_TENANT)) == {other, second}


async def test_a_key_made_in_another_way_may_become_the_bootstrap_key(keys: KeyStore) -> None:
    made = await keys.create("key-1", OPERATOR_TENANT, "mine", FIRST)

    assert await keys.put_bootstrap(FIRST) == made
    assert await keys.list_of(OPERATOR_TENANT) == (made,)
