"""Which engine a model's workers are told to run."""

import pytest

from libs.common.states import EngineChoice, EngineKind
from tests.integration.scheduler.world import World


@pytest.mark.parametrize("choice", [EngineChoice.AUTO, EngineChoice.STAGE])
async def test_workers_are_told_the_engine_that_their_model_asks_for(
    world: World, choice: EngineChoice
) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model(engine=choice.value)

    await world.start_endpoint(model_id)

    assert node.agent.accepted is not None
    (spec,) = node.agent.accepted.workers
    assert spec.engine is EngineKind.STAGE
    assert await world.value("SELECT engine FROM workers") == EngineKind.STAGE.value
