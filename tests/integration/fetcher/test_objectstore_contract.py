"""What every object store does, the double and the real one."""

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from blake3 import blake3

from deploy.local.state.ports import free_ports
from libs.common.errors import (
    ObjectMissing,
    ObjectStoreDown,
    ObjectStoreRefused,
    ObjectTooLarge,
)
from libs.common.objectstore.content_digest import content_digest
from libs.common.objectstore.objectstore import ObjectStore, RangeBody, RangeSource
from libs.common.objectstore.s3ranges import S3RangeSource
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.settings import ObjectStoreSettings
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.manifest import ByteRange
from tests.unit.common.weights.builders import random_bytes

KEY = "units/some-unit"


@dataclass(frozen=True)
class Subject:
    store: ObjectStore
    ranges: RangeSource


@pytest.fixture
def memory_subject() -> Subject:
    double = MemoryObjectStore()
    return Subject(double, double)


@pytest.fixture
async def s3_subject(object_store: ObjectStoreSettings) -> AsyncIterator[Subject]:
    async with S3ObjectStore(object_store) as store:
        yield Subject(store, S3RangeSource(object_store))


@pytest.fixture(params=["memory", "s3"])
def subject(request: pytest.FixtureRequest) -> Subject:
    found = request.getfixturevalue(f"{request.param}_subject")
    assert isinstance(found, Subject)
    return found


def read_all(body: RangeBody, size: int) -> bytes:
    buffer, position = bytearray(size), 0
    view = memoryview(buffer)
    while position < size and (count := body.readinto(view[position:])):
        position += count
    return bytes(buffer[:position])


async def put(subject: Subject, data: bytes, key: str = KEY) -> str:
    digest = blake3(data).hexdigest()
    await subject.store.put(key, io.BytesIO(data), size_bytes=len(data), digest=digest)
    return digest


async def test_an_object_comes_back_with_its_size_and_digest(subject: Subject) -> None:
    digest = await put(subject, b"some weights")

    info = await subject.store.stat(KEY)

    assert (info.size_bytes, info.digest) == (12, digest)
    assert await subject.store.get(KEY, max_bytes=100) == b"some weights"


async def test_a_large_object_is_stored_in_parts_with_its_metadata(subject: Subject) -> None:
    data = random_bytes(40 * 2**20)
    digest = await put(subject, data)

    info = await subject.store.stat(KEY)
    connection = subject.ranges.connect()
    middle = ByteRange(2**24 - 5, 2**24 + 5)
    found = read_all(connection.open_range(KEY, middle, len(data)), middle.nbytes)
    connection.close()

    assert (info.size_bytes, info.digest) == (len(data), digest)
    assert found == data[middle.start : middle.end]


async def test_bytes_are_stored_as_they_are(subject: Subject) -> None:
    await subject.store.put_bytes(KEY, b"", digest=blake3(b"").hexdigest())

    assert await subject.store.get(KEY, max_bytes=0) == b""


async def test_a_missing_object_is_reported_as_such(subject: Subject) -> None:
    with pytest.raises(ObjectMissing, match=KEY):
        await subject.store.stat(KEY)
    with pytest.raises(ObjectMissing, match=KEY):
        await subject.store.get(KEY, max_bytes=1)
    with pytest.raises(ObjectMissing, match=KEY):
        subject.ranges.connect().open_range(KEY, ByteRange(0, 1), 1)


async def test_an_object_over_the_callers_limit_is_not_read(subject: Subject) -> None:
    await put(subject, b"0123456789")

    with pytest.raises(ObjectTooLarge, match="10 bytes, the limit is 9"):
        await subject.store.get(KEY, max_bytes=9)


async def test_keys_are_listed_by_prefix(subject: Subject) -> None:
    for key in ("units/a", "units/b", "manifests/c"):
        await put(subject, b"x", key)

    assert sorted(await subject.store.list_keys("units/")) == ["units/a", "units/b"]


async def test_deleting_twice_is_no_error(subject: Subject) -> None:
    await put(subject, b"x")

    await subject.store.delete(KEY)
    await subject.store.delete(KEY)

    with pytest.raises(ObjectMissing):
        await subject.store.stat(KEY)


async def test_ranges_are_read_one_after_the_other_on_one_connection(subject: Subject) -> None:
    data = random_bytes(100_000)
    await put(subject, data)
    connection = subject.ranges.connect()

    parts = [
        read_all(connection.open_range(KEY, extent, len(data)), extent.nbytes)
        for extent in (ByteRange(0, 10), ByteRange(99_990, 100_000), ByteRange(5, 70_000))
    ]
    connection.close()

    assert parts == [data[:10], data[99_990:], data[5:70_000]]


async def test_an_object_of_another_size_is_refused(subject: Subject) -> None:
    await put(subject, b"0123456789")

    with pytest.raises(ObjectStoreRefused):
        subject.ranges.connect().open_range(KEY, ByteRange(0, 4), 11)


async def test_a_closed_connection_connects_anew(subject: Subject) -> None:
    await put(subject, b"0123456789")
    connection = subject.ranges.connect()
    connection.open_range(KEY, ByteRange(0, 8), 10)  # left unread
    connection.close()

    assert read_all(connection.open_range(KEY, ByteRange(2, 4), 10), 2) == b"23"
    connection.close()


async def test_wrong_credentials_are_refused(object_store: ObjectStoreSettings) -> None:
    settings = replace(object_store, secret_key="wrong")

    async with S3ObjectStore(settings) as store:
        with pytest.raises(ObjectStoreRefused):
            await store.put_bytes(KEY, b"x", digest="")
        with pytest.raises(ObjectStoreRefused):
            await store.stat(KEY)
    with pytest.raises(ObjectStoreRefused):
        S3RangeSource(settings).connect().open_range(KEY, ByteRange(0, 1), 1)


async def test_a_key_that_may_only_read_cannot_write(
    object_store: ObjectStoreSettings, read_only_object_store: ObjectStoreSettings
) -> None:
    async with S3ObjectStore(object_store) as store:
        await store.put_bytes(KEY, b"x", digest="")
    async with S3ObjectStore(read_only_object_store) as store:
        with pytest.raises(ObjectStoreRefused):
            await store.put_bytes(KEY, b"y", digest="")
        assert await store.get(KEY, max_bytes=1) == b"x"


async def test_a_server_that_is_not_there_is_down(object_store: ObjectStoreSettings) -> None:
    settings = replace(object_store, endpoint=f"http://127.0.0.1:{free_ports(1)[0]}")

    async with S3ObjectStore(settings) as store:
        with pytest.raises(ObjectStoreDown):
            await store.stat(KEY)
    with pytest.raises(ObjectStoreDown):
        S3RangeSource(settings).connect().open_range(KEY, ByteRange(0, 1), 1)


def test_secrets_do_not_appear_in_the_settings_text() -> None:
    settings = ObjectStoreSettings("http://x", "b", "r", access_key="AK", secret_key="SECRET")

    assert "SECRET" not in repr(settings)
    assert "SECRET" not in repr(S3RangeSource(settings)._credentials)


@pytest.mark.parametrize("size", [0, 1, 5_000, (8 << 20) + 17])
async def test_the_digest_of_the_content_is_that_of_what_is_stored_not_of_what_was_declared(
    subject: Subject, size: int
) -> None:
    data, paced = random_bytes(size), list[int]()
    await subject.store.put_bytes(KEY, data, digest="declared")

    connection = subject.ranges.connect()
    found = await asyncio.to_thread(
        content_digest, connection, KEY, size, pace=paced.append, piece_bytes=1 << 18
    )

    assert found == blake3(data).hexdigest()
    assert sum(paced) == size and max(paced, default=0) <= 1 << 18
