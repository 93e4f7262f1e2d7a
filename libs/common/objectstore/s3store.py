"""The object store over S3, through the minio SDK in a small thread pool."""

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from libs.common.errors import (
    ObjectMissing,
    ObjectStoreDown,
    ObjectStoreError,
    ObjectStoreRefused,
    ObjectTooLarge,
)
from libs.common.objectstore.objectstore import DIGEST_METADATA, ObjectInfo, Readable
from libs.common.settings import ObjectStoreSettings

_Result = TypeVar("_Result")
_PART_BYTES = 16 * 2**20  # held in memory per upload in flight; objects reach 160 GB with it
_NUM_THREADS = 4
_SOCKET_TIMEOUT_S = 10.0
_CALL_TIMEOUT_S = 30.0
_MIN_UPLOAD_BYTES_PER_S = 2**20  # an upload slower than this is a store that does not answer
_MISSING_CODES = frozenset({"NoSuchKey", "NoSuchObject", "NotFound"})
_BUSY_CODES = frozenset({"SlowDown", "SlowDownWrite", "SlowDownRead", "RequestTimeout"})


class S3ObjectStore:
    """Closing waits for calls in flight, which their own socket timeouts bound."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        endpoint = urlsplit(settings.endpoint)
        self._bucket = settings.bucket
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5.0, read=_SOCKET_TIMEOUT_S),
            maxsize=_NUM_THREADS,
            retries=False,  # callers repeat, with their own deadlines and jitter
        )
        self._client = Minio(
            endpoint=endpoint.netloc,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            region=settings.region,
            secure=endpoint.scheme == "https",
            http_client=self._http,
        )
        self._pool = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="objectstore")

    async def __aenter__(self) -> "S3ObjectStore":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        self._http.clear()

    async def put(self, key: str, source: Readable, *, size_bytes: int, digest: str) -> None:
        def call() -> None:
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=key,
                data=cast(BinaryIO, source),  # all that the SDK calls is read(size)
                length=size_bytes,
                metadata={DIGEST_METADATA: digest},
                part_size=_PART_BYTES,
                num_parallel_uploads=1,
            )

        timeout_s = _CALL_TIMEOUT_S + size_bytes / _MIN_UPLOAD_BYTES_PER_S
        await self._run(key, call, timeout_s)

    async def put_bytes(self, key: str, data: bytes, *, digest: str) -> None:
        await self.put(key, io.BytesIO(data), size_bytes=len(data), digest=digest)

    async def stat(self, key: str) -> ObjectInfo:
        def call() -> ObjectInfo:
            found = self._client.stat_object(bucket_name=self._bucket, object_name=key)
            metadata = found.metadata or {}
            return ObjectInfo(key, found.size or 0, metadata.get(f"x-amz-meta-{DIGEST_METADATA}"))

        return await self._run(key, call)

    async def get(self, key: str, *, max_bytes: int) -> bytes:
        def call() -> bytes:
            response = self._client.get_object(bucket_name=self._bucket, object_name=key)
            try:
                size = int(response.headers.get("content-length", 0))
                if size > max_bytes:
                    raise ObjectTooLarge(key, size, max_bytes)
                return response.read(max_bytes)
            finally:
                response.close()
                response.release_conn()

        return await self._run(key, call)

    async def list_keys(self, prefix: str) -> tuple[str, ...]:
        def call() -> tuple[str, ...]:
            objects = self._client.list_objects(
                bucket_name=self._bucket, prefix=prefix, recursive=True
            )
            return tuple(found.object_name for found in objects if found.object_name)

        return await self._run(prefix, call)

    async def delete(self, key: str) -> None:
        def call() -> None:
            self._client.remove_object(bucket_name=self._bucket, object_name=key)

        await self._run(key, call)

    async def _run(
        self, key: str, call: Callable[[], _Result], timeout_s: float = _CALL_TIMEOUT_S
    ) -> _Result:
        work = asyncio.get_running_loop().run_in_executor(self._pool, call)
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError as exc:
            raise ObjectStoreDown(f"{key}: no answer within {timeout_s:.0f} s") from exc
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise _mapped(key, exc) from exc


def _mapped(key: str, exc: Exception) -> ObjectStoreError:
    if isinstance(exc, S3Error):
        return _mapped_answer(key, exc)
    if isinstance(exc, ServerError) and exc.status_code < 500:
        return ObjectStoreRefused(f"{key}: the object store answers {exc.status_code}")
    if isinstance(exc, InvalidResponseError):
        return ObjectStoreDown(f"{key}: the answer is not S3")
    return ObjectStoreDown(f"{key}: {type(exc).__name__}")


def _mapped_answer(key: str, exc: S3Error) -> ObjectStoreError:
    if exc.code in _MISSING_CODES:
        return ObjectMissing(key)
    if exc.code in _BUSY_CODES or exc.response.status >= 500:
        return ObjectStoreDown(f"{key}: the object store answers {exc.response.status}")
    return ObjectStoreRefused(f"{key}: the object store answers {exc.code}")
