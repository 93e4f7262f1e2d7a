"""Ranged reads from S3: plain HTTP/1.1 with our own signature, read into the caller's memory."""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from libs.common.errors import ObjectMissing, ObjectStoreDown, ObjectStoreRefused
from libs.common.objectstore.objectstore import RangeConnection
from libs.common.objectstore.sigv4 import Credentials, object_path, signed_headers
from libs.common.settings import ObjectStoreSettings
from libs.common.weights.manifest import ByteRange

_SOCKET_TIMEOUT_S = 10.0
_TRANSPORT_ERRORS = (OSError, http.client.HTTPException)
_RETRYABLE_STATUSES = frozenset({408, 429})


class S3RangeSource:
    def __init__(
        self, settings: ObjectStoreSettings, *, socket_timeout_s: float = _SOCKET_TIMEOUT_S
    ) -> None:
        self._socket_timeout_s = socket_timeout_s
        self._endpoint = urlsplit(settings.endpoint)
        self._bucket = settings.bucket
        self._credentials = Credentials(
            settings.access_key, settings.region, secret_key=settings.secret_key
        )

    def connect(self) -> RangeConnection:
        return _S3RangeConnection(
            self._open, self._endpoint.netloc, self._bucket, self._credentials
        )

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._endpoint.hostname or "", self._endpoint.port
        timeout_s = self._socket_timeout_s
        if self._endpoint.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=timeout_s)


class _S3RangeConnection:
    def __init__(
        self,
        opener: Callable[[], http.client.HTTPConnection],
        host: str,
        bucket: str,
        credentials: Credentials,
    ) -> None:
        self._opener, self._host, self._bucket = opener, host, bucket
        self._credentials = credentials
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None  # of the request under way
        self._is_aborted = False
        self._lock = threading.Lock()  # of those two

    def open_range(self, key: str, extent: ByteRange, object_size_bytes: int) -> "_S3RangeBody":
        path = object_path(self._bucket, key)
        wanted = {"range": f"bytes={extent.start}-{extent.end - 1}"}
        headers = signed_headers("GET", self._host, path, wanted, self._credentials)
        if self._connection is None:
            self._connection = self._opener()
        try:
            self._connection.request("GET", path, headers=headers)
            self._expose(self._connection.sock)
            response = self._connection.getresponse()
        except _TRANSPORT_ERRORS as exc:
            self.close()
            raise ObjectStoreDown(f"{key}: {type(exc).__name__}") from exc
        try:
            _check_answer(key, response, extent, object_size_bytes)
        except Exception:
            self.close()  # the rest of this answer is not worth reading
            raise
        return _S3RangeBody(key, response)

    def close(self) -> None:
        with self._lock:
            self._socket = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        with self._lock:
            self._is_aborted = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # the other end was faster
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _expose(self, of_request: socket.socket) -> None:
        """To `abort`. Raises ConnectionAbortedError when that has come already."""
        with self._lock:
            self._socket = of_request
            if self._is_aborted:
                raise ConnectionAbortedError("aborted")


class _S3RangeBody:
    def __init__(self, key: str, response: http.client.HTTPResponse) -> None:
        self._key, self._response = key, response

    def readinto(self, buffer: memoryview) -> int:
        try:
            return self._response.readinto(buffer)
        except _TRANSPORT_ERRORS as exc:
            raise ObjectStoreDown(f"{self._key}: {type(exc).__name__}") from exc


def _check_answer(
    key: str, response: http.client.HTTPResponse, extent: ByteRange, object_size_bytes: int
) -> None:
    status = response.status
    if status == 404:
        raise ObjectMissing(key)
    if status >= 500 or status in _RETRYABLE_STATUSES:
        raise ObjectStoreDown(f"{key}: the object store answers {status}")
    if status == 200:
        raise ObjectStoreRefused(f"{key}: the object store ignores ranges (it answers 200)")
    if status != 206:
        raise ObjectStoreRefused(f"{key}: the object store answers {status}")
    expected = f"bytes {extent.start}-{extent.end - 1}/{object_size_bytes}"
    if response.getheader("content-range") != expected:
        given = response.getheader("content-range")
        raise ObjectStoreRefused(f"{key}: the object store sends {given!r} instead of {expected}")
