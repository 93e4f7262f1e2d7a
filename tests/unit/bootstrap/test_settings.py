"""What the bootstrap reads from its environment and from the folder of secrets."""

import os
from pathlib import Path

import pytest

from deploy.bootstrap.settings import NatsSettings, ServerSettings
from deploy.bootstrap.steps import write_nats_config
from deploy.compose.prepare import Owner, make_secrets
from libs.common.errors import SettingsError
from libs.common.settings import Environment


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    make_secrets(folder, Owner(os.geteuid(), os.getegid()), has_one_store_key=False)
    return folder


def environment(secrets: Path, **more: str) -> Environment:
    values = {
        "SECRETS": str(secrets),
        "NATS_CONFIG": str(secrets.parent / "nats.conf"),
        "NATS_STORE_DIR": "/data",
        "POSTGRES_ADDRESS": "postgres:5432",
        "S3_ENDPOINT": "http://minio:9000",
        **more,
    }
    return Environment({f"HYDRA_{key}": value for key, value in values.items()})


def test_the_nats_configuration_is_for_its_owner_alone(secrets: Path) -> None:
    settings = NatsSettings.read(environment(secrets))

    write_nats_config(settings)
    write_nats_config(settings)  # as each `up` does

    assert settings.path.stat().st_mode & 0o777 == 0o600
    assert (secrets / "nats-gateway").read_text().strip() in settings.path.read_text()


def test_only_the_importer_may_write_to_the_store(secrets: Path) -> None:
    settings = ServerSettings.read(environment(secrets))

    assert [user.name for user in settings.store_users if user.can_write] == ["importer"]
    assert [user.name for user in settings.store_users] == ["gateway", "fetcher", "importer"]


def test_users_that_are_given_are_not_made(secrets: Path) -> None:
    assert ServerSettings.read(environment(secrets, STORE_USERS="given")).store_users == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [("STORE_USERS", "ldap"), ("SECRETS", "/nowhere")],
)
def test_a_bad_setting_is_named(secrets: Path, key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"HYDRA_{key}"):
        ServerSettings.read(environment(secrets, **{key: value}))
