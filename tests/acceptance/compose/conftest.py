"""The stack in containers, started once for this folder's tests and removed with its volumes."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex

import pytest
import pytest_asyncio

from deploy.compose.prepare import make_secrets, owner_of_secrets
from deploy.local.ports import free_ports
from tests.acceptance.client import Client
from tests.acceptance.compose.engine import Project, why_unusable
from tests.support.checkpoints import make_tiny_llama

_UP_TIMEOUT_S = 600.0
_BUILD_TIMEOUT_S = 3600.0
_IMAGES = "proxy gateway-0 scheduler-0 fetcher-0 agent-0 importer bootstrap".split()


@pytest.fixture(scope="session")
def secrets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose") / "secrets"


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a tiny model, readable for the containers' user."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny_llama(folder / "tiny", is_endless=True)
    for path in (folder.parent, folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="session")
def project(secrets_folder: Path, models_folder: Path) -> Iterator[Project]:
    if (reason := why_unusable()) is not None:
        pytest.skip(reason)
    owner = owner_of_secrets(os.geteuid(), os.getegid())
    store_users = os.environ.get("STORE_USERS", "minio")
    make_secrets(secrets_folder, owner, has_one_store_key=store_users == "given")
    (port,) = free_ports(1)
    environment = {
        "HYDRA_UID": str(owner.uid),
        "HYDRA_GID": str(owner.gid),
        "HYDRA_SECRETS": str(secrets_folder),
        "HYDRA_MODELS": str(models_folder),
        "HYDRA_PORT": str(port),
        "STORE_USERS": store_users,
    }
    running = Project(f"hydraserve-test-{token_hex(4)}", environment)
    running.compose("build", *_IMAGES, timeout_s=_BUILD_TIMEOUT_S)
    try:
        running.compose("up", "--detach", "--wait", "--no-build", timeout_s=_UP_TIMEOUT_S)
        yield running
    finally:
        running.compose("down", "--volumes", "--remove-orphans", timeout_s=_UP_TIMEOUT_S)


@pytest.fixture(scope="session")
def secrets(project: Project, secrets_folder: Path) -> dict[str, str]:
    """By the names of their files."""
    return {path.name: path.read_text().strip() for path in secrets_folder.iterdir()}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(project: Project, secrets: dict[str, str]) -> AsyncIterator[Client]:
    url = f"http://127.0.0.1:{project.environment['HYDRA_PORT']}"
    connected = Client(url, secrets["api-key"])
    yield connected
    await connected.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def model(client: Client) -> str:
    await client.ready("tiny", "/models/tiny", keep_alive_s=30)
    return "tiny"
