"""Registered models become READY whatever message is lost, and only by their newest import."""

from dataclasses import replace

from libs.common.bus.messages import ImportModel, ImportProgressed
from libs.common.bus.subjects import IMPORT_PROGRESS
from libs.common.states import ImportState, ModelState
from tests.integration.scheduler.world import QUICK, World, digest, summary_of
from tests.integration.servers import TestDatabase
from tests.support.waiting import eventually


async def registered(world: World) -> str:
    return await world.add_model(state=ModelState.IMPORTING.value, manifest_digest=None)


async def job(world: World, number: int = 1) -> ImportModel:
    await eventually(lambda: len(world.workqueue.jobs) >= number, what=f"job {number}")
    return world.workqueue.jobs[number - 1]


async def report(world: World, job: ImportModel, state: ImportState, **values: object) -> None:
    message = ImportProgressed(
        model_id=job.model_id, import_id=job.import_id, node_id="node-1", state=state
    )
    bus = world.gateway.bus
    await bus.publish(IMPORT_PROGRESS, job.model_id, message.model_copy(update=values))


async def test_an_import_is_put_reported_on_and_ends_with_a_manifest(world: World) -> None:
    model_id = await registered(world)
    wanted = await job(world)
    assert (wanted.model_id, wanted.source) == (model_id, "/models/tiny")

    await report(world, wanted, ImportState.RUNNING, bytes_done=3, bytes_total=9)
    await world.until("SELECT import_bytes_done FROM models", 3)
    await report(
        world,
        wanted,
        ImportState.DONE,
        manifest_digest=digest("new"),
        summary=summary_of("tiny"),
    )

    await world.until("SELECT state FROM models", "READY")
    assert await world.value("SELECT manifest_digest FROM models") == digest("new")
    await eventually(
        lambda: any("models.changed" in name for name, _ in world.broker.published),
        what="the news",
    )


async def test_a_short_import_that_told_of_no_bytes_is_ready_with_those_of_its_manifest(
    world: World,
) -> None:
    await registered(world)
    summary = summary_of("tiny")

    await report(
        world, await job(world), ImportState.DONE, manifest_digest=digest("new"), summary=summary
    )

    await world.until("SELECT state FROM models", "READY")
    (row,) = await world.rows("SELECT import_bytes_done, import_bytes_total FROM models")
    num_bytes = sum(unit.size_bytes for unit in summary.units)
    assert tuple(row) == (num_bytes, num_bytes) != (0, 0)


async def test_an_import_says_whose_it_is_and_who_may_share_it(world: World) -> None:
    values = {"state": ModelState.IMPORTING.value, "manifest_digest": None}
    own = await world.add_model("own", tenant="ann", **values)
    public = await world.add_model("public", tenant="ann", is_public=True, **values)
    await job(world, 2)

    jobs = {wanted.model_id: (wanted.tenant, wanted.is_public) for wanted in world.workqueue.jobs}
    assert jobs == {own: ("ann", False), public: ("ann", True)}


async def test_a_failed_import_keeps_its_cause(world: World) -> None:
    await registered(world)

    await report(world, await job(world), ImportState.FAILED, cause="tensor x overlaps\x00 y")

    await world.until("SELECT state FROM models", "FAILED")
    assert await world.value("SELECT cause FROM models") == "tensor x overlaps y"


async def test_a_silent_import_is_put_again_and_a_reporting_one_is_not(world: World) -> None:
    await registered(world)
    first = await job(world)
    world.workqueue.lose_all()  # although it was acknowledged

    again = await job(world)

    assert again == first


async def test_waiting_imports_are_jobs_once_however_long_they_wait(world: World) -> None:
    for number in range(5):
        await world.add_model(str(number), state=ModelState.IMPORTING.value, manifest_digest=None)
    await job(world, 5)

    await eventually(lambda: world.workqueue.num_puts >= 15, what="puts for want of news")

    assert len({job.import_id for job in world.workqueue.jobs}) == len(world.workqueue.jobs) == 5


async def test_the_job_of_a_deleted_model_is_withdrawn(world: World) -> None:
    model_id = await registered(world)
    await job(world)

    await world.execute("UPDATE models SET state='DELETING' WHERE id=:id", id=model_id)

    await eventually(lambda: not world.workqueue.jobs, what="the withdrawal")


async def test_an_import_whose_fetcher_fell_silent_is_put_again_long_before_one_that_waits(
    database: TestDatabase,
) -> None:
    world = World(database.owner, replace(QUICK, import_silence_s=600.0, import_lost_s=0.5))
    await world.gateway.start()
    await world.start_leader()
    await registered(world)
    begun = await job(world)
    await world.workqueue.take(timeout_s=1)  # which the queue gives nobody else for a while
    await report(world, begun, ImportState.RUNNING, bytes_done=1, bytes_total=9)
    waits = await world.add_model("waits", state=ModelState.IMPORTING.value, manifest_digest=None)
    assert (await job(world)).model_id == waits

    assert await job(world, 2) == begun

    assert world.workqueue.num_puts == 3
    await world.close()


async def test_what_is_remembered_of_an_import_goes_with_its_end(world: World) -> None:
    await registered(world)
    await report(world, await job(world), ImportState.FAILED, cause="no such folder")

    await world.until("SELECT state FROM models", "FAILED")

    await eventually(lambda: not world.leader.controller.imports._tries, what="forgetting")


async def test_an_import_waits_for_a_queue_that_is_away(world: World) -> None:
    world.workqueue.is_down = True
    await registered(world)
    await world.until("SELECT import_heard_at IS NULL FROM models", True)

    world.workqueue.is_down = False

    await job(world)


async def test_a_stale_import_changes_nothing(world: World) -> None:
    model_id = await registered(world)
    old = await job(world)
    await world.execute("UPDATE models SET import_id='import-newer' WHERE id=:id", id=model_id)

    await report(world, old, ImportState.FAILED, cause="the old source was bad")
    await report(
        world,
        old.model_copy(update={"import_id": "import-newer"}),
        ImportState.DONE,
        manifest_digest=digest("new"),
        summary=summary_of("tiny"),
    )

    await world.until("SELECT state FROM models", "READY")
    assert await world.value("SELECT cause FROM models") is None


async def test_an_end_survives_a_late_progress_report_and_a_new_leader(world: World) -> None:
    await registered(world)
    wanted = await job(world)
    await report(
        world, wanted, ImportState.DONE, manifest_digest=digest("m"), summary=summary_of("tiny")
    )
    await report(world, wanted, ImportState.RUNNING, bytes_done=1, bytes_total=9)
    await world.until("SELECT state FROM models", "READY")

    await world.restart_leader()
    await report(world, wanted, ImportState.RUNNING, bytes_done=1, bytes_total=9)
    await report(world, wanted, ImportState.FAILED, cause="late")

    assert await world.value("SELECT state FROM models") == "READY"
