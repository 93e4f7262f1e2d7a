"""The registry answers from memory, looks again for unknown names, and outlives Postgres."""

import asyncio

import pytest

from libs.common.messages import ModelsChanged
from libs.common.subjects import MODELS_CHANGED
from libs.common.testing import FakeClock, MemoryBroker
from services.gateway.errors import NotFound, Unavailable
from services.gateway.registry import Registry
from tests.unit.gateway.doubles import TENANT, FakeModels, eventually, model_entry


async def test_an_unknown_name_makes_it_look_again_but_not_at_once() -> None:
    models, clock = FakeModels([]), FakeClock()
    registry = Registry(models, clock)
    with pytest.raises(NotFound):
        await registry.find(TENANT, "tiny")
    models.entries.append(model_entry())

    with pytest.raises(NotFound):
        await registry.find(TENANT, "tiny")
    clock.advance(1)

    assert (await registry.find(TENANT, "tiny")).name == "tiny"


async def test_a_tenant_sees_its_own_models_only() -> None:
    registry = Registry(FakeModels([model_entry(), model_entry(tenant="other")]), FakeClock())
    await registry.refresh()

    assert [entry.tenant for entry in registry.list_of(TENANT)] == [TENANT]


async def test_what_is_known_stays_while_postgres_is_away() -> None:
    models, clock = FakeModels([model_entry()]), FakeClock()
    registry = Registry(models, clock)
    await registry.refresh()
    models.is_down = True
    clock.advance(60)

    assert not await registry.refresh()
    assert (await registry.find(TENANT, "tiny")).name == "tiny"
    with pytest.raises(Unavailable):
        await registry.find(TENANT, "unseen")


async def test_before_it_has_read_anything_it_does_not_claim_to_know() -> None:
    registry = Registry(FakeModels([], is_down=True), FakeClock())

    assert not registry.is_loaded
    with pytest.raises(Unavailable):
        await registry.find(TENANT, "tiny")
    with pytest.raises(Unavailable):
        registry.list_of(TENANT)


async def test_a_change_told_over_the_bus_is_seen_at_once() -> None:
    models, broker = FakeModels([]), MemoryBroker()
    registry = Registry(models, FakeClock())
    running = asyncio.create_task(registry.run(broker.bus()))
    await eventually(lambda: registry.is_loaded)
    models.entries.append(model_entry())

    await broker.bus().publish(MODELS_CHANGED, None, ModelsChanged(model_ids=("model-tiny",)))

    await eventually(lambda: len(registry.list_of(TENANT)) == 1)
    running.cancel()
    await asyncio.wait([running])
