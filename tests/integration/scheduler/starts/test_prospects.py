"""What new requests are told of the cluster: from one reading for all that come at once."""

from libs.common.states import ModelState
from services.scheduler.intake.feasibility import Prospect, Prospects
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.rounds.summaries import Summaries
from services.scheduler.store import models
from tests.integration.scheduler.desk import Desk
from tests.integration.scheduler.world import MODEL_BYTES

MAX_AGE_S = 1.0


async def _ask(desk: Desk, prospects: Prospects, model_id: str) -> Prospect:
    async with desk.world.database.transaction() as session:
        model = await models.find(session, model_id)
        assert model is not None and model.state is ModelState.READY
        deployable = await Summaries().deployable(session, model)
        return await prospects.of(session, deployable)


async def test_one_reading_and_one_plan_answer_all_requests_of_a_moment(desk: Desk) -> None:
    prospects = Prospects(desk.observed, desk.clock, MAX_AGE_S)
    await desk.add_node("small", memory_bytes=MODEL_BYTES - 1)
    model_id = await desk.world.add_model()
    first = await _ask(desk, prospects, model_id)
    assert first.shortage is not None

    await desk.add_node("large", memory_bytes=MODEL_BYTES)
    assert await _ask(desk, prospects, model_id) is first

    desk.clock.advance(MAX_AGE_S)
    later = await _ask(desk, prospects, model_id)
    assert later.shortage is None and isinstance(later.best, Plan)


async def test_a_model_that_was_changed_is_asked_for_anew(desk: Desk) -> None:
    prospects = Prospects(desk.observed, desk.clock, MAX_AGE_S)
    await desk.add_node("node-1", memory_bytes=MODEL_BYTES)
    model_id = await desk.world.add_model()
    assert (await _ask(desk, prospects, model_id)).shortage is None

    await desk.world.execute("UPDATE models SET kv_cache_bytes = :size", size=MODEL_BYTES)

    assert (await _ask(desk, prospects, model_id)).shortage is not None
