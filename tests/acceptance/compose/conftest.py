"""The stack in containers, started once for this folder's tests and removed with its volumes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.acceptance.client import Client
from tests.acceptance.compose.engine import Project
from tests.acceptance.compose.running import readable, running_project
from tests.support.checkpoints import make_tiny_llama

NUM_NODES = 4
KEEP_ALIVE_S = 3


@pytest.fixture(scope="session")
def project_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose")


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model that is not worth splitting, and one whose layers are worth four nodes: 14 MB."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny_llama(folder / "tiny", is_endless=True)
    make_tiny_llama(folder / "layered", seed=5, num_layers=6, hidden_size=256, is_endless=True)
    return readable(folder)


@pytest.fixture(scope="session")
def project(project_folder: Path, models_folder: Path) -> Iterator[Project]:
    with running_project(project_folder, models_folder) as running:
        yield running


@pytest.fixture(scope="session")
def secrets(project: Project, project_folder: Path) -> dict[str, str]:
    """By the names of their files."""
    return {path.name: path.read_text().strip() for path in (project_folder / "secrets").iterdir()}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(project: Project, secrets: dict[str, str]) -> AsyncIterator[Client]:
    connected = Client(project.url, secrets["api-key"])
    yield connected
    await connected.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def model(client: Client) -> str:
    await client.ready("tiny", "/models/tiny", keep_alive_s=KEEP_ALIVE_S)
    return "tiny"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def layered(client: Client) -> str:
    """Its endpoints are pipelines over all nodes."""
    settings = {
        "keep_alive_s": KEEP_ALIVE_S,
        "min_pipeline_size": NUM_NODES,
        "max_pipeline_size": NUM_NODES,
    }
    await client.ready("layered", "/models/layered", **settings)
    return "layered"
