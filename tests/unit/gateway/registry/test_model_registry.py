"""The registry answers from memory, looks again for unknown names, and outlives Postgres."""

import asyncio

import pytest

from libs.common.bus.messages import ModelsChanged
from libs.common.bus.subjects import MODELS_CHANGED
from libs.common.clock import Clock, SystemClock
from libs.common.reasons import Reason
from libs.common.states import ModelState
from libs.common.testing.bus import FakeClock, MemoryBroker
from services.gateway.errors import NotServed
from services.gateway.registry.known_model import ENTRY_BYTES
from services.gateway.registry.model_registry import ModelRegistry
from services.gateway.store.model_entry import ModelEntry, ModelKey
from tests.support.waiting import eventually
from tests.unit.gateway.reasons import not_served
from tests.unit.gateway.stores import FakeModels
from tests.unit.gateway.tiny import NOW, TENANT, model_entry, summary_of


def registry_of(
    models: FakeModels, clock: Clock | None = None, num_entries: int = 100
) -> ModelRegistry:
    return ModelRegistry(models, clock or FakeClock(), num_entries * ENTRY_BYTES)


def importing(bytes_done: int) -> ModelEntry:
    return model_entry(state=ModelState.IMPORTING, bytes_done=bytes_done, summary=None)


def known_names(registry: ModelRegistry) -> list[str]:
    return [entry.name for entry in registry.known_of(TENANT)]


async def test_what_another_gateway_has_just_registered_is_found() -> None:
    models = FakeModels([])
    registry = registry_of(models)
    with not_served(Reason.MODEL_NOT_FOUND):
        await registry.find(TENANT, "tiny")
    models.entries.append(model_entry())

    assert (await registry.find(TENANT, "tiny")).name == "tiny"


async def test_however_many_ask_for_unknown_names_one_read_answers_them() -> None:
    models = FakeModels([])
    registry = registry_of(models)
    await registry.refresh()

    answers = await asyncio.gather(
        *(registry.find(TENANT, f"unknown-{i}") for i in range(20)), return_exceptions=True
    )

    reasons = {answer.reason for answer in answers if isinstance(answer, NotServed)}
    assert len(answers) == 20 and reasons == {Reason.MODEL_NOT_FOUND}
    assert models.num_reads == 1


async def test_a_tenants_thousand_unknown_names_delay_no_other_tenants_model() -> None:
    models = FakeModels([model_entry(tenant="other")])
    registry = registry_of(models)
    many = [asyncio.create_task(registry.find(TENANT, f"unknown-{i}")) for i in range(1000)]
    await asyncio.sleep(0)

    await registry.find("other", "tiny")

    assert models.asked.index(ModelKey("other", "tiny")) < 2
    await asyncio.gather(*many, return_exceptions=True)


async def test_unknown_names_push_no_model_out_of_memory() -> None:
    models = FakeModels([model_entry()])
    registry = registry_of(models, num_entries=1)
    await registry.refresh()

    await asyncio.gather(
        *(registry.find("other", f"unknown-{i}") for i in range(300)), return_exceptions=True
    )

    assert known_names(registry) == ["tiny"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "a\n", "a\x00", "../a", "\ud800"])
async def test_what_is_no_models_name_is_not_looked_for(name: str) -> None:
    models = FakeModels([])

    with not_served(Reason.MODEL_NOT_FOUND):
        await registry_of(models).find(TENANT, name)

    assert models.num_reads == 0


async def test_a_tenant_sees_its_own_models_only() -> None:
    registry = registry_of(FakeModels([model_entry(), model_entry(tenant="other", model_id="o")]))
    await registry.refresh()

    assert [entry.tenant for entry in registry.known_of(TENANT)] == [TENANT]


async def test_an_imports_progress_never_falls_from_one_gateway_to_the_next() -> None:
    models = FakeModels([importing(bytes_done=100)])
    first, second = registry_of(models, SystemClock()), registry_of(models, SystemClock())
    await first.refresh()
    await second.refresh()
    models.entries = [importing(bytes_done=200)]

    told = [(await registry.latest(TENANT, "tiny")).bytes_done for registry in (first, second)]

    assert told == [200, 200]


async def test_an_imports_progress_is_told_as_it_was_known_while_postgres_is_away() -> None:
    models = FakeModels([importing(bytes_done=100)])
    registry = registry_of(models, SystemClock())
    await registry.refresh()
    models.is_down = True

    assert (await registry.latest(TENANT, "tiny")).bytes_done == 100
    assert (await registry.find(TENANT, "tiny")).bytes_done == 100


async def test_whoever_asks_a_model_that_is_being_imported_is_told_how_far_it_is_now() -> None:
    models, clock = FakeModels([importing(bytes_done=100)]), FakeClock()
    registry = registry_of(models, clock)
    await registry.refresh()
    models.entries = [importing(bytes_done=200)]
    clock.advance(1)

    assert (await registry.find(TENANT, "tiny")).bytes_done == 200


async def test_of_a_ready_model_memory_is_told() -> None:
    models = FakeModels([model_entry()])
    registry = registry_of(models, SystemClock())
    await registry.refresh()
    num_reads = models.num_reads

    await registry.latest(TENANT, "tiny")
    await registry.find(TENANT, "tiny")

    assert models.num_reads == num_reads


async def test_what_is_known_stays_while_postgres_is_away() -> None:
    models, clock = FakeModels([model_entry()]), FakeClock()
    registry = registry_of(models, clock)
    await registry.refresh()
    models.is_down = True
    clock.advance(60)

    assert not await registry.refresh()
    assert (await registry.find(TENANT, "tiny")).name == "tiny"
    with not_served(Reason.DATABASE_UNAVAILABLE):
        await registry.find(TENANT, "unseen")


async def test_before_it_has_read_anything_it_does_not_claim_to_know() -> None:
    registry = registry_of(FakeModels([], is_down=True))

    assert not registry.is_loaded and not registry.knows_all
    with not_served(Reason.DATABASE_UNAVAILABLE):
        await registry.find(TENANT, "tiny")


async def test_a_change_told_over_the_bus_is_seen_at_once() -> None:
    models, broker = FakeModels([]), MemoryBroker()
    registry = registry_of(models)
    running = asyncio.create_task(registry.run(broker.bus()))
    await eventually(lambda: registry.is_loaded)
    models.entries.append(model_entry())

    await broker.bus().publish(MODELS_CHANGED, None, ModelsChanged(model_ids=("model-tiny",)))

    await eventually(lambda: known_names(registry) == ["tiny"])
    running.cancel()
    await asyncio.wait([running])


async def test_a_change_is_read_and_nothing_else() -> None:
    models = FakeModels([model_entry(f"m{i}") for i in range(50)])
    registry = registry_of(models)
    await registry.refresh()
    models.asked.clear()
    models.entries[7] = model_entry("m7", max_queue=3)

    await registry.refresh()
    await registry.refresh()

    assert models.asked == [ModelKey(TENANT, "m7")]
    assert (await registry.find(TENANT, "m7")).max_queue == 3


async def test_a_deleted_model_is_forgotten() -> None:
    models = FakeModels([model_entry(), model_entry("other")])
    registry = registry_of(models)
    await registry.refresh()
    del models.entries[0]

    await registry.refresh()

    assert known_names(registry) == ["other"]
    with not_served(Reason.MODEL_NOT_FOUND):
        await registry.find(TENANT, "tiny")


async def test_memory_holds_a_bounded_part_of_many_models_and_all_are_found() -> None:
    models = FakeModels([model_entry(f"m{i}") for i in range(2000)])
    registry = registry_of(models, num_entries=10)
    await registry.refresh()

    assert len(known_names(registry)) == 10 and not registry.knows_all
    assert len(models.asked) <= 512, "no more was read than one step of loading"
    for i in (3, 1999, 700):
        assert (await registry.find(TENANT, f"m{i}")).name == f"m{i}"
    assert len(known_names(registry)) == 10


async def test_a_change_to_a_model_that_memory_has_no_room_for_is_not_read() -> None:
    models = FakeModels([model_entry(f"m{i}") for i in range(100)])
    registry = registry_of(models, num_entries=10)
    await registry.refresh()
    models.asked.clear()
    unknown = next(e for e in models.entries if e.name not in known_names(registry))
    models.entries[models.entries.index(unknown)] = model_entry(unknown.name, max_queue=3)

    await registry.refresh()

    assert models.asked == []
    assert (await registry.find(TENANT, unknown.name)).max_queue == 3


async def test_of_many_models_those_asked_for_last_are_told_for_loading_ahead() -> None:
    entries = [model_entry(f"m{i}", summary=summary_of({"f": str(i).encode()})) for i in range(600)]
    registry = registry_of(FakeModels(entries), num_entries=1000)
    await registry.refresh()
    for name in ("m5", "m599", "m300"):
        await registry.find(TENANT, name)

    recent = registry.recent_facts()

    assert recent[:3] == [entries[i].summary for i in (300, 599, 5)]
    assert len(recent) == 256


async def test_a_server_that_was_started_again_is_asked_for_all_that_is_known() -> None:
    models = FakeModels([model_entry()])
    registry = registry_of(models)
    await registry.refresh()
    models.entries, models._seen = [], {}  # of an older state: nothing tells of the change
    models._told.clear()
    models.server_started_at = NOW.replace(year=2030)

    await registry.refresh()

    assert known_names(registry) == []


async def test_a_change_that_commits_while_its_model_is_read_is_read_once_more() -> None:
    """The statement that runs may not see it, and its answer must not stay."""
    models = _SlowModels([model_entry()])
    registry = registry_of(models)
    await registry.refresh()
    await _read_slowly(registry, models)
    finding = asyncio.create_task(registry.find("other", "late"))
    await models.is_reading.wait()
    models.entries.append(model_entry("late", tenant="other", model_id="late"))

    refreshing = asyncio.create_task(registry.refresh())
    await eventually(lambda: registry._lookup._queue)
    models.may_answer.set()
    await refreshing
    await asyncio.wait([finding])

    assert [entry.name for entry in registry.known_of("other")] == ["late"]


class _SlowModels(FakeModels):
    """Answers what was so when it was asked, once it may."""

    def __init__(self, entries: list[ModelEntry]) -> None:
        super().__init__(entries)
        self.is_reading, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def find_all(self, keys: object) -> dict[ModelKey, ModelEntry]:
        found = await super().find_all(keys)  # type: ignore[arg-type]
        self.is_reading.set()
        await self.may_answer.wait()
        return found


async def _read_slowly(registry: ModelRegistry, models: _SlowModels) -> None:
    """And with no room for what nobody asks for."""
    registry._known.has_dropped = True
    models.is_reading.clear()
    models.may_answer.clear()
