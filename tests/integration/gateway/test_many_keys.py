"""Statements about API keys, however many were used since the last ones."""

from libs.common.records.database import Database
from services.gateway.store.keys import KeyStore
from tests.integration.servers import TestDatabase

MANY = 40_000  # a statement has room for 32,767 values


async def test_any_number_of_keys_is_found_and_noted_at_once(database: TestDatabase) -> None:
    store = KeyStore(gateway := Database.open(database.gateway))
    for i in (7, MANY - 1):
        await store.create(f"key-{i}", "acme", "k", f"hash-{i}")

    found = await store.find_all([f"hash-{i}" for i in range(MANY)])
    await store.write_uses([f"key-{i}" for i in range(MANY)])

    assert {info.key_id for info in found.values()} == {"key-7", f"key-{MANY - 1}"}
    assert all(info.last_used_at is not None for info in await store.list_of("acme"))
    await gateway.close()
