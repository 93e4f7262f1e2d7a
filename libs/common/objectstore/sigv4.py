"""AWS Signature Version 4 for requests without a body, in headers (never in the URL).

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. Signing ourselves
keeps signed URLs out of messages, logs and spans: there are none.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Credentials:
    access_key: str
    region: str
    secret_key: str = field(repr=False)


def object_path(bucket: str, key: str) -> str:
    """The request path of an object, percent-encoded as the signature wants it."""
    return quote(f"/{bucket}/{key}", safe="/~")


def signed_headers(
    method: str, host: str, path: str, extra: Mapping[str, str], credentials: Credentials
) -> dict[str, str]:
    """All headers of a request whose body is empty, with `Authorization`.

    `path` is already percent-encoded and has no query; `extra` is signed too.
    """
    return _sign(method, host, path, extra, credentials, datetime.now(UTC))


def _sign(
    method: str,
    host: str,
    path: str,
    extra: Mapping[str, str],
    credentials: Credentials,
    now: datetime,
) -> dict[str, str]:
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {name.lower(): value for name, value in extra.items()}
    headers |= {"host": host, "x-amz-date": moment, "x-amz-content-sha256": _EMPTY_SHA256}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    request = f"{method}\n{path}\n\n{lines}\n{names}\n{_EMPTY_SHA256}"
    scope = f"{moment[:8]}/{credentials.region}/s3/aws4_request"
    to_sign = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = _hmac(_signing_key(credentials, moment[:8]), to_sign).hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return headers


@lru_cache(maxsize=8)
def _signing_key(credentials: Credentials, date: str) -> bytes:
    key = _hmac(b"AWS4" + credentials.secret_key.encode(), date)
    for part in (credentials.region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
