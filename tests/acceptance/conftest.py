"""One running stack for all acceptance tests: real processes, real servers, real models.

Tests share it and leave it as they found it; `settled` says what that means. After each test its
stacks are looked at: the promises of docs/invariants.md hold, whatever the test did.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.nodes import NodeOptions
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from tests.acceptance.client import Client
from tests.acceptance.invariants import require_invariants
from tests.acceptance.stacks import connected, running_stack
from tests.support.checkpoints import make_tiny_llama

NODES = tuple(
    NodeOptions(
        f"node-{i}",
        nic_bytes_per_s=50_000_000,
        device_memory_bytes=2 * 2**30,
        cores=1,
        host_cache_bytes=2**30,
    )
    for i in range(2)
)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that models may be imported from."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="session")
def tiny(sources: Path) -> Path:
    """A random fp32 model that answers thousands of tokens in seconds."""
    return make_tiny_llama(sources / "tiny")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, sources: Path
) -> AsyncIterator[LocalStack]:
    folder = tmp_path_factory.mktemp("stack")
    async with running_stack(folder, NODES, sources) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(stack: LocalStack) -> AsyncIterator[Client]:
    async with connected(stack) as client:
        yield client


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def promises(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Raises BrokenInvariant for what a stack that the test used does not keep."""
    yield
    values = request.node.funcargs.values()
    stacks = (value if isinstance(value, LocalStack) else _stack_of(value) for value in values)
    for running in {id(found): found for found in stacks if found is not None}.values():
        await require_invariants(running)


def _stack_of(value: object) -> LocalStack | None:
    """Of a fixture that holds one."""
    found = getattr(value, "stack", None)
    return found if isinstance(found, LocalStack) else None


def model_cache() -> Path:
    """Where converted checkpoints are kept between runs; beneath the state folder of `make`."""
    return StateFolder.from_environment(os.environ).path / "test-models"
