"""A stack of its own: four nodes and two schedulers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.nodes import NodeOptions
from deploy.local.stack import LocalStack
from libs.common.records.database import Database
from tests.acceptance.client import Client
from tests.acceptance.observing import known_agent_pids
from tests.acceptance.pipeline.driving.disturbed_streams import Models
from tests.acceptance.pipeline.driving.record import Record
from tests.acceptance.stacks import connected, running_stack
from tests.support.checkpoints import make_tiny_llama

NUM_NODES = 4


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def wide_stack(
    tmp_path_factory: pytest.TempPathFactory, sources: Path
) -> AsyncIterator[LocalStack]:
    nodes = tuple(
        NodeOptions(
            f"node-{i}",
            nic_bytes_per_s=50_000_000,
            device_memory_bytes=2 * 2**30,
            cores=1,
            host_cache_bytes=2**30,
        )
        for i in range(NUM_NODES)
    )
    folder = tmp_path_factory.mktemp("wide")
    async with running_stack(folder, nodes, sources, num_schedulers=2, num_gateways=2) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def wide_client(wide_stack: LocalStack) -> AsyncIterator[Client]:
    async with connected(wide_stack) as client:
        yield client


@pytest.fixture(scope="session")
def layered(sources: Path) -> Path:
    """A random fp32 model whose layers are worth fetching on four nodes: 14 MB of them."""
    return make_tiny_llama(sources / "layered", seed=5, num_layers=6, hidden_size=256)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def record(wide_stack: LocalStack) -> AsyncIterator[Record]:
    database = Database.open(wide_stack.servers.database_settings("scheduler"))
    yield Record(database)
    await database.close()


@pytest.fixture(scope="session")
def models(wide_client: Client, wide_stack: LocalStack, record: Record, sources: Path) -> Models:
    return Models(wide_client, wide_stack, record, sources)


@pytest.fixture
def agents_are_known(wide_stack: LocalStack) -> None:
    """So that workers are found also when their agent has died."""
    known_agent_pids(wide_stack)
