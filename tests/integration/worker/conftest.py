"""What tests of the agent as it runs have in common; a module says what differs by fixtures of its
own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.servers import RunningNats
from tests.integration.worker.agents import Cluster, RunningAgent
from tests.integration.worker.tiny import TinyModel, UnitFolder
from tests.integration.worker.unitservers import UnitServerDouble


@pytest.fixture(scope="module")
def model() -> TinyModel:
    return TinyModel()


@pytest.fixture
def folder(tmp_path: Path, model: TinyModel) -> Iterator[UnitFolder]:
    folder = UnitFolder(tmp_path / "units", model)
    folder.fill()
    with UnitServerDouble(tmp_path, folder):
        yield folder


@pytest.fixture
async def cluster(nats_server: RunningNats, model: TinyModel) -> AsyncIterator[Cluster]:
    cluster = await Cluster.open(nats_server, model)
    yield cluster
    await cluster.close()


@pytest.fixture
def agent_settings() -> dict[str, str]:
    """Variables of the agent's environment, beside those that every agent has."""
    return {}


@pytest.fixture
async def agent(
    tmp_path: Path,
    nats_server: RunningNats,
    cluster: Cluster,
    folder: UnitFolder,
    agent_settings: dict[str, str],
) -> AsyncIterator[RunningAgent]:
    agent = RunningAgent(tmp_path, nats_server, **agent_settings)
    try:
        await cluster.until(lambda _heartbeat: True)
        yield agent
    finally:
        agent.kill()
