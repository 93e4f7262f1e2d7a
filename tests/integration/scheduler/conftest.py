from collections.abc import AsyncIterator

import pytest_asyncio

from tests.integration.scheduler.world import World
from tests.integration.servers import TestDatabase


@pytest_asyncio.fixture
async def world(database: TestDatabase) -> AsyncIterator[World]:
    """A leader, a gateway, no nodes and no models yet."""
    world = World(database.owner)
    await world.gateway.start()
    await world.start_leader()
    yield world
    await world.close()
