"""Making the bucket, over plain S3."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from minio import Minio
from urllib3 import PoolManager
from urllib3.util import Timeout

from deploy.bootstrap.names import REGION

_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class StoreAdministrator:
    """An S3 server and the key that may do everything there."""

    endpoint: str  # http://host:port
    access_key: str
    secret_key: str = field(repr=False)

    @property
    def address(self) -> str:
        return urlsplit(self.endpoint).netloc

    @property
    def is_secure(self) -> bool:
        return urlsplit(self.endpoint).scheme == "https"


def make_bucket(administrator: StoreAdministrator, name: str) -> None:
    """Does nothing when it exists. Raises MinioException or urllib3's HTTPError."""
    with PoolManager(timeout=Timeout(_TIMEOUT_S), retries=False) as pool:
        client = Minio(
            administrator.address,
            access_key=administrator.access_key,
            secret_key=administrator.secret_key,
            secure=administrator.is_secure,
            region=REGION,
            http_client=pool,
        )
        if not client.bucket_exists(name):
            client.make_bucket(name)
