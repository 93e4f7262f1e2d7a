"""One life of the stack: up, the demo's story with its real model, and down to nothing."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.bootstrap.names import API_KEY_SECRET
from deploy.local.demo_model import ensure_demo_model
from deploy.local.report.api_types import ColdStartInfo
from deploy.local.state.state_folder import StateFolder
from tests.acceptance.client import Client
from tests.acceptance.compose.complaints import complaints
from tests.acceptance.compose.conftest import NUM_NODES
from tests.acceptance.compose.engine import Project, why_unusable
from tests.acceptance.compose.running import DOWN_TIMEOUT_S, readable, running_project

# It may have to build the images.
pytestmark = pytest.mark.timeout(3600)

_DEMO_TIMEOUT_S = 300.0
# What is no fault, by service: the passwords are random and in a file for the server alone.
NAMED = {"nats": ("Plaintext passwords detected",)}


@pytest.fixture
def demo_models(tmp_path: Path) -> Path:
    if (reason := why_unusable()) is not None:
        pytest.skip(reason)
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(ensure_demo_model(StateFolder.from_environment().sources), folder)
    return readable(folder)


async def test_the_demo_starts_four_nodes_cold_then_from_host_caches_and_leaves_nothing(
    tmp_path: Path, demo_models: Path
) -> None:
    with running_project(tmp_path, demo_models) as project:
        key_file = tmp_path / "secrets" / API_KEY_SECRET

        told = await asyncio.to_thread(_tell_the_demo, project, key_file)

        cold, warm = await _cold_starts(project, key_file.read_text().strip())
        assert len(cold.stage_indexes) == len(warm.stage_indexes) == NUM_NODES, told
        assert cold.bytes_from_cache == 0 < cold.weight_bytes
        assert warm.bytes_from_cache == warm.weight_bytes
        assert complaints(project, NAMED) == {}

        project.down(DOWN_TIMEOUT_S)
        assert project.leftovers() == []


def _tell_the_demo(project: Project, key_file: Path) -> str:
    """Its output. It fails itself where an answer is wrong or comes from the wrong place."""
    command = [sys.executable, "-m", "deploy.compose.demo", "--url", project.url]
    done = subprocess.run(
        [*command, "--api-key-file", str(key_file)],
        capture_output=True,
        text=True,
        timeout=_DEMO_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def _cold_starts(project: Project, api_key: str) -> list[ColdStartInfo]:
    """In their order."""
    client = Client(project.url, api_key)
    try:
        listed = sorted(await client.get("/api/v1/cold-starts"), key=lambda s: s["started_at"])
        found = [await client.get(f"/api/v1/cold-starts/{start['id']}") for start in listed]
    finally:
        await client.close()
    return [ColdStartInfo.parse(body) for body in found]
