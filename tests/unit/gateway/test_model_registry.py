"""The registry answers from memory, looks again for unknown names, and outlives Postgres."""

import asyncio

from libs.common.bus.messages import ModelsChanged
from libs.common.bus.subjects import MODELS_CHANGED
from libs.common.clock import SystemClock
from libs.common.reasons import Reason
from libs.common.states import ModelState
from libs.common.testing.bus import FakeClock, MemoryBroker
from services.gateway.errors import NotServed
from services.gateway.model_registry import ModelRegistry
from services.gateway.store.models import ModelEntry
from tests.support.waiting import eventually
from tests.unit.gateway.reasons import not_served
from tests.unit.gateway.stores import FakeModels
from tests.unit.gateway.tiny import TENANT, model_entry


def importing(bytes_done: int) -> ModelEntry:
    return model_entry(state=ModelState.IMPORTING, bytes_done=bytes_done, summary=None)


async def test_what_another_gateway_has_just_registered_is_found() -> None:
    models = FakeModels([])
    registry = ModelRegistry(models, FakeClock())
    with not_served(Reason.MODEL_NOT_FOUND):
        await registry.find(TENANT, "tiny")
    models.entries.append(model_entry())

    assert (await registry.find(TENANT, "tiny")).name == "tiny"


async def test_however_many_ask_for_unknown_names_one_read_answers_them() -> None:
    models = FakeModels([])
    registry = ModelRegistry(models, FakeClock())
    await registry.refresh()

    answers = await asyncio.gather(
        *(registry.find(TENANT, f"unknown-{i}") for i in range(20)), return_exceptions=True
    )

    reasons = {answer.reason for answer in answers if isinstance(answer, NotServed)}
    assert len(answers) == 20 and reasons == {Reason.MODEL_NOT_FOUND}
    assert models.num_reads == 2


async def test_a_tenant_sees_its_own_models_only() -> None:
    registry = ModelRegistry(FakeModels([model_entry(), model_entry(tenant="other")]), FakeClock())
    await registry.refresh()

    assert [entry.tenant for entry in registry.list_models(TENANT)] == [TENANT]


async def test_an_imports_progress_never_falls_from_one_gateway_to_the_next() -> None:
    models = FakeModels([importing(bytes_done=100)])
    first, second = ModelRegistry(models, SystemClock()), ModelRegistry(models, SystemClock())
    await first.refresh()
    await second.refresh()
    models.entries = [importing(bytes_done=200)]

    told = [(await registry.latest(TENANT, "tiny")).bytes_done for registry in (first, second)]
    models.entries = [importing(bytes_done=300)]
    listed = [(await registry.list_latest(TENANT))[0].bytes_done for registry in (first, second)]

    assert (told, listed) == ([200, 200], [300, 300])


async def test_an_imports_progress_is_told_as_it_was_known_while_postgres_is_away() -> None:
    models = FakeModels([importing(bytes_done=100)])
    registry = ModelRegistry(models, SystemClock())
    await registry.refresh()
    models.is_down = True

    assert (await registry.latest(TENANT, "tiny")).bytes_done == 100


async def test_of_a_ready_model_memory_is_told() -> None:
    models = FakeModels([model_entry()])
    registry = ModelRegistry(models, SystemClock())
    await registry.refresh()

    await registry.latest(TENANT, "tiny")
    await registry.list_latest(TENANT)

    assert models.num_reads == 1


async def test_what_is_known_stays_while_postgres_is_away() -> None:
    models, clock = FakeModels([model_entry()]), FakeClock()
    registry = ModelRegistry(models, clock)
    await registry.refresh()
    models.is_down = True
    clock.advance(60)

    assert not await registry.refresh()
    assert (await registry.find(TENANT, "tiny")).name == "tiny"
    with not_served(Reason.DATABASE_UNAVAILABLE):
        await registry.find(TENANT, "unseen")


async def test_before_it_has_read_anything_it_does_not_claim_to_know() -> None:
    registry = ModelRegistry(FakeModels([], is_down=True), FakeClock())

    assert not registry.is_loaded
    with not_served(Reason.DATABASE_UNAVAILABLE):
        await registry.find(TENANT, "tiny")
    with not_served(Reason.DATABASE_UNAVAILABLE):
        registry.list_models(TENANT)


async def test_a_change_told_over_the_bus_is_seen_at_once() -> None:
    models, broker = FakeModels([]), MemoryBroker()
    registry = ModelRegistry(models, FakeClock())
    running = asyncio.create_task(registry.run(broker.bus()))
    await eventually(lambda: registry.is_loaded)
    models.entries.append(model_entry())

    await broker.bus().publish(MODELS_CHANGED, None, ModelsChanged(model_ids=("model-tiny",)))

    await eventually(lambda: len(registry.list_models(TENANT)) == 1)
    running.cancel()
    await asyncio.wait([running])
