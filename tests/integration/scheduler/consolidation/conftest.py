from collections.abc import AsyncIterator
from dataclasses import replace

import pytest_asyncio

from tests.integration.scheduler.world import QUICK, World
from tests.integration.servers import TestDatabase


@pytest_asyncio.fixture
async def world(database: TestDatabase) -> AsyncIterator[World]:
    """A leader that lets pipelines become one worker, a gateway, no nodes and no models yet."""
    world = World(database.owner, timing=replace(QUICK, can_consolidate=True))
    await world.gateway.start()
    await world.start_leader()
    yield world
    await world.close()
