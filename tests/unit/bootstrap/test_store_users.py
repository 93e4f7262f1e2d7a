"""What a user of the object store may do."""

import json

import pytest
from minio.error import MinioAdminException

from deploy.bootstrap.bucket import StoreAdministrator
from deploy.bootstrap.store_users import StoreUser, bucket_policy, make_users
from tests.unit.bootstrap.minioadmin import SECRET_KEY, MinioAdminDouble

DANGEROUS = ("*", "s3:*", "s3:DeleteObject", "s3:PutBucketPolicy", "admin:*")


def actions(*, can_write: bool) -> set[str]:
    policy = bucket_policy("weights", can_write=can_write)
    statements = policy["Statement"]
    assert isinstance(statements, list)
    return {action for statement in statements for action in statement["Action"]}


def test_a_reader_reads_and_lists() -> None:
    assert actions(can_write=False) == {
        "s3:GetObject",
        "s3:ListBucket",
        "s3:GetBucketLocation",
    }


def test_a_writer_puts_too() -> None:
    assert "s3:PutObject" in actions(can_write=True)


@pytest.mark.parametrize("can_write", [False, True])
def test_nobody_deletes_or_leaves_the_bucket(can_write: bool) -> None:
    assert not actions(can_write=can_write) & set(DANGEROUS)
    resources = json.dumps(bucket_policy("weights", can_write=can_write))
    assert "arn:aws:s3:::*" not in resources


def test_users_are_made_with_their_policies_and_made_again_without_complaint() -> None:
    double = MinioAdminDouble()
    users = (StoreUser("fetcher", "f-key", "f-secret"), StoreUser("importer", "i", "s", True))
    with double.serving() as url:
        administrator = StoreAdministrator(url, "administrator", SECRET_KEY)
        make_users(administrator, "weights", users)

        make_users(administrator, "weights", users)

    assert double.secret_keys == {"f-key": "f-secret", "i": "s"}
    assert double.attached == {"f-key": ["weights-fetcher"], "i": ["weights-importer"]}
    assert double.policies["weights-fetcher"] == bucket_policy("weights", can_write=False)
    assert double.policies["weights-importer"] == bucket_policy("weights", can_write=True)


def test_a_refusal_is_raised() -> None:
    with (
        MinioAdminDouble(is_refusing=True).serving() as url,
        pytest.raises(MinioAdminException, match="SignatureDoesNotMatch"),
    ):
        administrator = StoreAdministrator(url, "administrator", SECRET_KEY)
        make_users(administrator, "weights", (StoreUser("x", "x-key", "x-secret"),))
