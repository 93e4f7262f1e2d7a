"""A byte that flips in the object store costs a 503 at most, and the model heals by its source."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from deploy.local.stack import LocalStack
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.records.database import Database
from tests.acceptance.client import Client, Json
from tests.acceptance.observing import settled
from tests.support.checkpoints import make_tiny_llama
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class Insides:
    """The stack's object store and database, as nobody outside may reach them."""

    store: S3ObjectStore
    database: Database

    async def value(self, sql: str, **parameters: object) -> object:
        async with self.database.transaction() as session:
            return await session.scalar(text(sql), parameters)

    async def unit_key(self, model: str) -> str:
        """Of the second layer."""
        digest = await self.value(
            "SELECT summary->'units'->2->>'digest' FROM manifests JOIN models ON "
            "manifest_digest = digest WHERE name = :name AND state = 'READY'",
            name=model,
        )
        return f"units/{digest}"

    async def flip_byte(self, key: str) -> bytes:
        """What was there."""
        sound = await self.store.get(key, max_bytes=MAX_BYTES)
        data = bytearray(sound)
        data[-100] ^= 1
        await self.store.put_bytes(key, bytes(data), digest=key.rpartition("/")[2])
        return sound


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def insides(stack: LocalStack) -> AsyncIterator[Insides]:
    servers = stack.servers
    database = Database.open(servers.database_settings("scheduler"))
    async with S3ObjectStore(servers.object_store_settings("fetcher")) as store:
        yield Insides(store, database)
    await database.close()


async def answered(client: Client, model: str) -> str:
    """The answer of a model that may be importing still."""

    async def answer() -> httpx.Response | None:
        response = await client.chat(model, "go", max_tokens=40, temperature=0)
        return response if response.status_code == 200 else None

    response = await eventually(answer, timeout_s=90, poll_s=0.2, what="an answer")
    assert isinstance(response, httpx.Response)
    return str(response.json()["choices"][0]["message"]["content"])


async def test_a_flipped_byte_is_told_as_passing_and_healed(
    client: Client, stack: LocalStack, sources: Path, insides: Insides
) -> None:
    folder = make_tiny_llama(sources / "flipped", seed=23, is_endless=True)
    # The same weights under two owners are other units: the first says what is right.
    await client.ready("sound", str(folder), public=True, keep_alive_s=1)
    await client.ready("flipped", str(folder), keep_alive_s=1)
    expected = await answered(client, "sound")
    key = await insides.unit_key("flipped")
    sound = await insides.flip_byte(key)

    first = await client.chat("flipped", "go", max_tokens=40, temperature=0)

    if first.status_code == 200:  # it was healed while the request was on its way to be refused
        assert first.json()["choices"][0]["message"]["content"] == expected
    else:
        assert first.status_code == 503, first.text
        assert first.headers["retry-after"]
        assert "import" in first.text and key in first.text
    assert await answered(client, "flipped") == expected
    assert await insides.store.get(key, max_bytes=MAX_BYTES) == sound
    model = await client.model("flipped")
    assert (model["state"], model["cause"]) == ("READY", None)
    assert await insides.value("SELECT count(*) FROM damaged_objects") == 0
    for name in ("flipped", "sound"):
        await client.delete(name)
    await settled(stack, client)


async def test_without_its_source_the_model_says_what_to_do(
    client: Client, stack: LocalStack, sources: Path, insides: Insides
) -> None:
    folder = make_tiny_llama(sources / "lost", seed=24)
    await client.ready("lost", str(folder))
    key = await insides.unit_key("lost")
    await insides.flip_byte(key)
    await asyncio.to_thread(folder.rename, sources / "moved")

    first = await client.chat("lost", "go", max_tokens=4)

    assert first.status_code in (503, 422), first.text

    async def failed() -> Json | None:
        found = await client.model("lost")
        return found if found["state"] == "FAILED" else None

    what = "an import that found no source"
    model: Any = await eventually(failed, timeout_s=60, what=what)
    assert key in model["cause"] and "register it again" in model["cause"]
    refused = await client.chat("lost", "go", max_tokens=4)
    assert refused.status_code == 422, refused.text
    await client.delete("lost")
    await settled(stack, client)
