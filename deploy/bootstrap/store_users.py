"""A MinIO server's users: one for each service that reads or writes weights, and no more rights.

Reading needs ListBucket too: without it the server answers 403 for an object that is not there.
Objects are immutable, so nobody may delete one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from minio import MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from urllib3 import PoolManager
from urllib3.util import Timeout

from deploy.bootstrap.bucket import StoreAdministrator
from deploy.bootstrap.names import REGION

_TIMEOUT_S = 10.0
_IN_EFFECT = "AlreadyApplied"  # how the server says that a user has that policy
_READING: Final = ("s3:GetObject",)
_WRITING: Final = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")


@dataclass(frozen=True)
class StoreUser:
    """Reads the bucket; only an importer writes to it."""

    name: str
    access_key: str
    secret_key: str = field(repr=False)
    can_write: bool = False


def bucket_policy(bucket: str, *, can_write: bool) -> dict[str, object]:
    """In the policy language of S3."""
    objects = (*_READING, *_WRITING) if can_write else _READING
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allowed(("s3:ListBucket", "s3:GetBucketLocation"), f"arn:aws:s3:::{bucket}"),
            _allowed(objects, f"arn:aws:s3:::{bucket}/*"),
        ],
    }


def make_users(administrator: StoreAdministrator, bucket: str, users: Sequence[StoreUser]) -> None:
    """Makes them, or sets their keys and rights anew. Raises MinioAdminException, HTTPError."""
    with PoolManager(timeout=Timeout(_TIMEOUT_S), retries=False) as pool:
        admin = MinioAdmin(
            endpoint=administrator.address,
            credentials=StaticProvider(administrator.access_key, administrator.secret_key),
            region=REGION,
            secure=administrator.is_secure,
            http_client=pool,
        )
        for user in users:
            _make_user(admin, bucket, user)


def _make_user(admin: MinioAdmin, bucket: str, user: StoreUser) -> None:
    policy = f"{bucket}-{user.name}"
    admin.policy_add(policy, policy=bucket_policy(bucket, can_write=user.can_write))
    admin.user_add(user.access_key, user.secret_key)
    try:
        admin.attach_policy([policy], user=user.access_key)
    except MinioAdminException as exc:
        if _IN_EFFECT not in str(exc):
            raise


def _allowed(actions: Sequence[str], resource: str) -> Mapping[str, object]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": [resource]}
