"""After a first crash its requests go on together; after a second one alone, each for a token."""

from tests.integration.scheduler.requests.test_losses import fail, serving, until_counted
from tests.integration.scheduler.world import World

NAMES = tuple(f"request-{i}" for i in range(10))


async def start_all(world: World) -> str:
    """A model whose endpoint has been given all of them."""
    await world.add_node("node-1")
    model_id = await world.add_model(max_slots=12)
    for name in NAMES:
        await world.gateway.submit(model_id, request_id=name)
    for name in NAMES:
        await serving(world, name)
    return model_id


async def crash_under_all(world: World, model_id: str, number: int) -> None:
    await fail(world, world.gateway.assigned[NAMES[0]].endpoint_id)
    for name in NAMES:
        await world.gateway.resubmit(model_id, name, has_progressed=True)
    for name in NAMES:
        await until_counted(world, number, 0, name)


async def test_after_a_first_crash_all_its_requests_are_assigned_together(world: World) -> None:
    model_id = await start_all(world)

    await crash_under_all(world, model_id, 1)

    assert len({await world.assigned(name) for name in NAMES}) == 1


async def test_after_a_second_crash_each_goes_alone_until_its_next_token_is_out(
    world: World,
) -> None:
    model_id = await start_all(world)
    await crash_under_all(world, model_id, 1)
    for name in NAMES:
        await serving(world, name)
    await crash_under_all(world, model_id, 2)

    for number, name in enumerate(NAMES):
        await serving(world, name)
        assert set(NAMES[: number + 1]) == world.gateway.assigned.keys(), "the others wait"
        await world.gateway.tell_progress(name)

    running = "SELECT count(*) FROM requests WHERE state = 'ASSIGNED'"
    assert await world.value(running) == len(NAMES), "in company again"


async def test_who_crashes_its_engine_alone_ends_alone(world: World) -> None:
    model_id = await start_all(world)
    await crash_under_all(world, model_id, 1)
    for name in NAMES:
        await serving(world, name)
    await crash_under_all(world, model_id, 2)

    starts = world.nodes["node-1"].behaviour
    for number in (3, 4):
        endpoint_id = await serving(world, NAMES[0])
        starts.readies_workers = False  # its gateway is sooner than any start
        await fail(world, endpoint_id)
        await world.gateway.resubmit(model_id, NAMES[0])
        await until_counted(world, number, 0, NAMES[0])
        starts.readies_workers = True

    await serving(world, NAMES[1])
    assert world.gateway.refused.keys() == {NAMES[0]}
