"""Verifying the object store finds what is damaged, tells the scheduler, and reads at its rate."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest_asyncio
from blake3 import blake3

from deploy.bootstrap.object_verifier import FOUND_BY, ObjectVerifier, VerifyResult, pacer
from libs.common.testing.objectstore import MemoryObjectStore
from tests.integration.servers import TestDatabase


@dataclass(frozen=True)
class VerifyWorld:
    connection: "asyncpg.Connection[asyncpg.Record]"
    store: MemoryObjectStore

    async def put(self, prefix: str, data: bytes, *, stored: bytes | None = None) -> str:
        """Its key. `stored`: what lies there instead."""
        digest = blake3(data).hexdigest()
        key = f"{prefix}/{digest}"
        await self.store.put_bytes(key, data if stored is None else stored, digest=digest)
        return key

    async def verify(self) -> VerifyResult:
        return await ObjectVerifier(self.connection, self.store, self.store, 0).verify()

    async def rows(self) -> dict[str, tuple[str, bool, bool]]:
        found = await self.connection.fetch("SELECT * FROM damaged_objects")
        return {r["key"]: (r["found_by"], r["is_handled"], r["is_whole"]) for r in found}


@pytest_asyncio.fixture
async def world(database: TestDatabase) -> AsyncIterator[VerifyWorld]:
    connection = await asyncpg.connect(database.owner.url, password=database.owner.password)
    yield VerifyWorld(connection, MemoryObjectStore())
    await connection.close()


async def test_every_damaged_object_gets_a_row_and_no_other(world: VerifyWorld) -> None:
    sound = [await world.put(prefix, b"sound") for prefix in ("units", "tokenizers", "manifests")]
    damaged = [
        await world.put("units", b"a" * 5000, stored=b"a" * 4999 + b"b"),  # of equal size
        await world.put("units", b"long", stored=b"lon"),
        await world.put("tokenizers", b"{}", stored=b"[]"),
        await world.put("manifests", b"m", stored=b""),
    ]

    verified = await world.verify()

    assert sorted(verified.damaged) == sorted(damaged)
    assert verified.num_verified == len(sound) + len(damaged)
    assert await world.rows() == dict.fromkeys(damaged, (FOUND_BY, False, False))


async def test_what_is_whole_again_is_said_and_what_stays_damaged_is_for_the_scheduler_again(
    world: VerifyWorld,
) -> None:
    healed = await world.put("units", b"one", stored=b"0ne")
    damaged = await world.put("units", b"two", stored=b"2wo")
    await world.verify()
    await world.connection.execute("UPDATE damaged_objects SET is_handled = true")
    await world.put("units", b"one")

    await world.verify()

    assert await world.rows() == {
        healed: (FOUND_BY, True, True),
        damaged: (FOUND_BY, False, False),
    }


async def test_verifying_changes_nothing_in_the_store(world: VerifyWorld) -> None:
    key = await world.put("units", b"one", stored=b"0ne")
    num_puts = world.store.num_puts

    await world.verify()

    assert world.store.num_puts == num_puts
    assert await world.store.get(key, max_bytes=9) == b"0ne"


def test_no_more_bytes_move_per_second_than_allowed() -> None:
    now_s, waits_s = 0.0, list[float]()

    def sleep(wait_s: float) -> None:
        nonlocal now_s
        waits_s.append(wait_s)
        now_s += wait_s

    pace = pacer(1_000_000, clock=lambda: now_s, sleep=sleep)
    for _ in range(20):
        pace(1 << 20)

    assert abs(now_s - 20 * (1 << 20) / 1e6) < 0.1
    assert max(waits_s) < 1.1


def test_without_a_limit_nobody_waits() -> None:
    def sleep(_wait_s: float) -> None:
        raise AssertionError

    pace = pacer(0, clock=lambda: 0.0, sleep=sleep)
    pace(1 << 40)
