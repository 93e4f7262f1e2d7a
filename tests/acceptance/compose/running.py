"""A stack out of the compose file with a name, port, secrets and volumes of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from deploy.compose.prepare import make_secrets, owner_of_secrets
from deploy.local.state.ports import free_ports
from tests.acceptance.compose.engine import Project, why_unusable

DOWN_TIMEOUT_S = 120.0
_UP_TIMEOUT_S = 600.0
_BUILD_TIMEOUT_S = 3600.0
_BUILT = "proxy gateway-0 scheduler-0 fetcher-0 agent-0 importer bootstrap".split()


@contextmanager
def running_project(folder: Path, models: Path) -> Iterator[Project]:
    """Up and healthy; its secrets are in `folder`/secrets. Skips where no engine is at hand."""
    if (reason := why_unusable()) is not None:
        pytest.skip(reason)
    project = Project(f"hydraserve-test-{token_hex(4)}", _environment(folder / "secrets", models))
    project.compose("build", *_BUILT, timeout_s=_BUILD_TIMEOUT_S)
    try:
        project.compose("up", "--detach", "--wait", "--no-build", timeout_s=_UP_TIMEOUT_S)
        yield project
    finally:
        project.down(DOWN_TIMEOUT_S)


def _environment(secrets: Path, models: Path) -> dict[str, str]:
    owner = owner_of_secrets(os.geteuid(), os.getegid())
    store_users = os.environ.get("STORE_USERS", "minio")
    make_secrets(secrets, owner, has_one_store_key=store_users == "given")
    (port,) = free_ports(1)
    return {
        "HYDRA_UID": str(owner.uid),
        "HYDRA_GID": str(owner.gid),
        "HYDRA_SECRETS": str(secrets),
        "HYDRA_MODELS": str(models),
        "HYDRA_PORT": str(port),
        "STORE_USERS": store_users,
    }


def readable(folder: Path) -> Path:
    """For the containers' user, whoever that is."""
    for path in (folder.parent, folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder
