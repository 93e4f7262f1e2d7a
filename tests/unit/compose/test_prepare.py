"""The secrets' files and .env."""

import os
import re
from pathlib import Path

import pytest

from deploy.bootstrap.names import NATS_USERS
from deploy.compose.prepare import Owner, make_env, make_secrets, owner_of_secrets
from libs.common.bus.subjects import Service

COMPOSE_FILE = Path(__file__).parents[3] / "deploy" / "compose" / "compose.yaml"
ME = Owner(os.geteuid(), os.getegid())


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_every_secret_that_the_compose_file_mounts_is_made_and_no_other(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets", ME, has_one_store_key=False)

    mounted = re.findall(r"HYDRA_SECRETS[^}]*}/([\w-]+)", COMPOSE_FILE.read_text())
    assert set(read(tmp_path / "secrets")) == set(mounted)


def test_secrets_are_for_their_owner_alone_and_all_different(tmp_path: Path) -> None:
    paths = make_secrets(tmp_path / "secrets", ME, has_one_store_key=False)

    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert len({path.read_text() for path in paths}) == len(paths)


def test_what_is_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder, ME, has_one_store_key=False)
    before = read(folder)

    make_secrets(folder, ME, has_one_store_key=False)

    assert read(folder) == before


def test_one_store_key_is_everybodys(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets", ME, has_one_store_key=True)

    found = read(tmp_path / "secrets")
    for part in ("access", "secret"):
        assert len({text for name, text in found.items() if name.endswith(f"-{part}-key")}) == 1


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        (1000, Owner(1000, 1000)),
        (0, Owner(10001, 10001)),  # containers do not run as root
    ],
)
def test_containers_run_as_the_operator_but_never_as_root(uid: int, expected: Owner) -> None:
    assert owner_of_secrets(uid, uid) == expected


def test_an_env_file_that_is_there_is_the_operators(tmp_path: Path) -> None:
    env, example = tmp_path / ".env", tmp_path / "env.example"
    example.write_text("#NODE_NIC=50M\n")
    make_env(env, example, Owner(1000, 100), has_one_store_key=True)
    assert env.read_text().splitlines()[-3:] == [
        "HYDRA_UID=1000",
        "HYDRA_GID=100",
        "STORE_USERS=given",
    ]
    env.write_text("NODE_NIC=1G\n")

    make_env(env, example, Owner(1000, 100), has_one_store_key=True)

    assert env.read_text() == "NODE_NIC=1G\n"


def test_the_bus_has_a_password_for_each_service() -> None:
    assert sorted(NATS_USERS) == sorted(service.value for service in Service)
