"""A damaged object of the store costs one start; then its models are imported again."""

import pytest

from libs.common.bus.messages import ImportModel, SubmitAccepted, SubmitRefused
from libs.common.causes import Cause, CauseKind
from libs.common.reasons import ClientRetry, Reason
from libs.common.states import FetchState, ImportState
from tests.integration.scheduler.test_imports import job, report
from tests.integration.scheduler.world import World, digest, summary_of
from tests.support.waiting import eventually

KEY = f"units/{summary_of('tiny').units[2].digest}"
MANIFEST = digest("manifest tiny")
DAMAGED = Cause.of(CauseKind.UNIT_CORRUPT, key=KEY, detail="chunk 0, read 3 times")


async def failed_start(world: World, model_id: str, request_id: str = "request-1") -> None:
    """A request whose model's start meets the damaged object."""
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = False
    await world.gateway.submit(model_id, request_id=request_id)
    await world.assigned(request_id)
    await eventually(lambda: bool(node.fetcher.fetches), what="its fetch")
    for fetch_id in list(node.fetcher.fetches):
        node.fetcher.change(fetch_id, state=FetchState.FAILED, cause=DAMAGED)
    await world.until("SELECT count(*) FROM endpoints WHERE state='FAILED'", 1)


async def done(world: World, wanted: ImportModel, manifest: str = "manifest tiny") -> None:
    await report(
        world,
        wanted,
        ImportState.DONE,
        manifest_digest=digest(manifest),
        summary=summary_of("tiny"),
    )


async def test_the_model_says_which_object_is_damaged_and_is_imported_again(world: World) -> None:
    model_id = await world.add_model()

    await failed_start(world, model_id)

    assert await world.value("SELECT state FROM models") == "IMPORTING"
    cause = await world.value("SELECT cause FROM models")
    assert KEY in cause and "imported again" in cause
    assert await world.value("SELECT found_by FROM damaged_objects WHERE key=:key", key=KEY)
    wanted = await job(world)
    assert wanted.manifest_digest == MANIFEST
    assert wanted.suspect_keys == (KEY,)


async def test_requests_meanwhile_are_told_to_come_again(world: World) -> None:
    model_id = await world.add_model()
    await failed_start(world, model_id)

    again = (await world.gateway.resubmit(model_id, "request-1")).result
    new = (await world.gateway.submit(model_id, request_id="request-2")).result

    for refused in (again, new):
        assert isinstance(refused, SubmitRefused), refused
        assert refused.code is Reason.MODEL_NOT_READY
        assert refused.code.row.retry is ClientRetry.LATER
        assert KEY in refused.message
    assert await world.value("SELECT outcome FROM requests WHERE id='request-1'") == "model_failed"


async def test_queued_requests_end_when_nothing_lives_of_the_model(world: World) -> None:
    model_id = await world.add_model(max_slots=1)
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = False
    await world.gateway.submit(model_id, request_id="request-1")
    await world.assigned("request-1")
    await world.gateway.submit(model_id, request_id="request-2")
    await eventually(lambda: bool(node.fetcher.fetches), what="its fetch")

    for fetch_id in list(node.fetcher.fetches):
        node.fetcher.change(fetch_id, state=FetchState.FAILED, cause=DAMAGED)

    await eventually(lambda: "request-2" in world.gateway.refused, what="the refusal")
    assert world.gateway.refused["request-2"].code is Reason.MODEL_NOT_READY
    assert await world.value("SELECT count(*) FROM endpoints") == 1  # no start was tried again


async def test_once_imported_again_it_starts(world: World) -> None:
    model_id = await world.add_model()
    await failed_start(world, model_id)
    world.nodes["node-1"].behaviour.completes_fetches = True

    await done(world, await job(world))

    await world.until("SELECT state FROM models", "READY")
    assert await world.value("SELECT cause FROM models") is None
    assert await world.value("SELECT count(*) FROM damaged_objects") == 0
    await world.start_endpoint(model_id, "request-3")


@pytest.mark.parametrize(
    ("manifest", "why"),
    [(None, "does not exist"), ("other weights", "not what was registered")],
    ids=["the source is gone", "the source has changed"],
)
async def test_what_cannot_be_made_whole_says_what_to_do(
    world: World, manifest: str | None, why: str
) -> None:
    model_id = await world.add_model()
    await failed_start(world, model_id)
    wanted = await job(world)

    if manifest is None:
        await report(world, wanted, ImportState.FAILED, cause="/models/tiny does not exist")
    else:
        await done(world, wanted, manifest)

    await world.until("SELECT state FROM models", "FAILED")
    cause = await world.value("SELECT cause FROM models")
    assert KEY in cause and why in cause and "register it again" in cause
    assert await world.value("SELECT manifest_digest FROM models") == MANIFEST
    assert await world.value("SELECT count(*) FROM damaged_objects") == 1


async def test_every_model_that_needs_the_object_is_imported_again(world: World) -> None:
    """Also those that nobody asks for, as an operator's verification finds them."""
    first, second = (
        await world.add_model("tiny"),
        await world.add_model("same", manifest_digest=MANIFEST),
    )
    other = await world.add_model("other")

    await world.execute("INSERT INTO damaged_objects (key, found_by) VALUES (:key, 'x')", key=KEY)

    await job(world, 2)
    assert {wanted.model_id for wanted in world.workqueue.jobs} == {first, second}
    assert await world.value("SELECT state FROM models WHERE id=:id", id=other) == "READY"


async def test_one_source_makes_all_models_whole_that_share_the_object(world: World) -> None:
    await world.add_model("tiny")
    await world.add_model("same", manifest_digest=MANIFEST)
    await world.execute("INSERT INTO damaged_objects (key, found_by) VALUES (:key, 'x')", key=KEY)
    await job(world, 2)
    without, with_source = world.workqueue.jobs
    await report(world, without, ImportState.FAILED, cause="no such folder")
    await world.until("SELECT count(*) FROM models WHERE state='FAILED'", 1)

    await done(world, with_source)

    await world.until("SELECT count(*) FROM models WHERE state='READY'", 2)


async def test_what_is_verified_as_whole_makes_its_models_ready(world: World) -> None:
    await world.add_model()
    await world.execute("INSERT INTO damaged_objects (key, found_by) VALUES (:key, 'x')", key=KEY)
    await report(world, await job(world), ImportState.FAILED, cause="no such folder")
    await world.until("SELECT state FROM models", "FAILED")

    await world.execute("UPDATE damaged_objects SET is_whole = true")

    await world.until("SELECT state FROM models", "READY")
    assert await world.value("SELECT count(*) FROM damaged_objects") == 0


async def test_what_serves_goes_on_serving_while_its_model_is_imported_again(
    world: World,
) -> None:
    model_id = await world.add_model()
    await world.add_node("node-1")
    endpoint_id = await world.start_endpoint(model_id)
    await world.execute("INSERT INTO damaged_objects (key, found_by) VALUES (:key, 'x')", key=KEY)
    await job(world)

    accepted = (await world.gateway.submit(model_id, request_id="request-2")).result

    assert isinstance(accepted, SubmitAccepted)
    assert await world.assigned("request-2") == endpoint_id
    assert await world.endpoint_state(endpoint_id) == "STANDALONE"


@pytest.mark.parametrize("kind", [CauseKind.STORE_UNREACHABLE, CauseKind.UNIT_MISSING])
async def test_other_failures_of_the_store_damage_nothing(world: World, kind: CauseKind) -> None:
    model_id = await world.add_model()
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = False
    await world.gateway.submit(model_id, request_id="request-1")
    await eventually(lambda: bool(node.fetcher.fetches), what="its fetch")

    for fetch_id in list(node.fetcher.fetches):
        node.fetcher.change(fetch_id, state=FetchState.FAILED, cause=Cause.of(kind, key=KEY))

    await world.until("SELECT count(*) FROM endpoints WHERE state='FAILED'", 1)
    assert await world.value("SELECT state FROM models") == "READY"
    assert await world.value("SELECT count(*) FROM damaged_objects") == 0
