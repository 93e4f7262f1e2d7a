"""Postgres is away: rows wait for it, warm answers do not."""

from tests.support.waiting import eventually
from tests.unit.gateway.fakeworker import ANSWER
from tests.unit.gateway.world import gateway_world, text_of


async def test_rows_wait_for_postgres_and_are_written_once_it_is_back() -> None:
    async with gateway_world() as world:
        world.writer.is_down = True
        await world.chat()
        assert world.gateway.journal.num_kept == 1

        world.writer.is_down = False

        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.gateway.journal.num_kept == 0


async def test_postgres_may_be_down_while_a_warm_model_answers() -> None:
    async with gateway_world() as world:
        await world.warm_route("ep-1")
        await world.chat()
        world.keys.is_down = world.models.is_down = world.writer.is_down = True

        assert text_of(await world.chat()) == ANSWER
