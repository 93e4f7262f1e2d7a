"""A stack of its own, whose pipelines become one worker: four nodes and two schedulers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.nodes import NodeOptions
from deploy.local.stack import LocalStack
from libs.common.records.database import Database
from tests.acceptance.client import Client
from tests.acceptance.observing import known_agent_pids
from tests.acceptance.pipeline.driving.disturbed_streams import NUM_STAGES, Models
from tests.acceptance.pipeline.driving.record import Record
from tests.acceptance.stacks import connected, running_stack

# The rest of a model takes seconds to come, so that something can happen meanwhile.
NIC_BYTES_PER_S = 10_000_000


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def joining_stack(
    tmp_path_factory: pytest.TempPathFactory, sources: Path
) -> AsyncIterator[LocalStack]:
    nodes = tuple(
        NodeOptions(f"node-{i}", nic_bytes_per_s=NIC_BYTES_PER_S) for i in range(NUM_STAGES)
    )
    folder = tmp_path_factory.mktemp("joining")
    async with running_stack(
        folder, nodes, sources, can_consolidate=True, num_schedulers=2
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def joining_record(joining_stack: LocalStack) -> AsyncIterator[Record]:
    database = Database.open(joining_stack.servers.database_settings("scheduler"))
    yield Record(database)
    await database.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def joining_models(
    joining_stack: LocalStack, joining_record: Record, sources: Path
) -> AsyncIterator[Models]:
    async with connected(joining_stack) as client:
        folder = sources / "joining"
        folder.mkdir()
        yield Models(client, joining_stack, joining_record, folder)


@pytest.fixture
def joining_client(joining_models: Models) -> Client:
    return joining_models.client


@pytest.fixture
def agents_are_known(joining_stack: LocalStack) -> None:
    """So that workers are found also when their agent has died."""
    known_agent_pids(joining_stack)
