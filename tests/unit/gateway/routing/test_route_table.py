"""Routes are hints: the emptiest first, none that just refused; withdrawals are told."""

from libs.common.bus.messages import Route, RoutesPart, RoutesPublished
from libs.common.bus.route_parts import ALL_MODELS, covers, parts_of
from libs.common.testing.bus import FakeClock
from services.gateway.routing.route_table import RouteTable


def routes_to(*endpoint_ids: str, max_slots: int = 2) -> tuple[Route, ...]:
    return tuple(Route(endpoint_id=e, epoch=1, max_slots=max_slots) for e in endpoint_ids)


def published(*endpoint_ids: str, epoch: int = 1, max_slots: int = 2) -> RoutesPublished:
    """All of one model."""
    routes = routes_to(*endpoint_ids, max_slots=max_slots)
    return RoutesPublished(leader_epoch=epoch, routes={"model-1": routes})


def ids(routes: RouteTable) -> list[str]:
    return [route.endpoint_id for route in routes.candidates("model-1")]


async def test_the_emptiest_comes_first_and_full_ones_not_at_all() -> None:
    routes = RouteTable(FakeClock())
    await routes.on_published(published("ep-1", "ep-2"))

    routes.count_started("ep-1")
    assert ids(routes) == ["ep-2", "ep-1"]
    routes.count_started("ep-1")
    assert ids(routes) == ["ep-2"]
    routes.count_ended("ep-1")
    routes.count_ended("ep-1")
    assert sorted(ids(routes)) == ["ep-1", "ep-2"]


async def test_an_endpoint_that_refused_is_not_asked_again_for_a_moment() -> None:
    clock = FakeClock()
    routes = RouteTable(clock)
    await routes.on_published(published("ep-1"))

    routes.mark_refused("ep-1")
    assert ids(routes) == []
    clock.advance(1)
    assert ids(routes) == ["ep-1"]


async def test_routes_of_a_deposed_leader_are_ignored() -> None:
    routes = RouteTable(FakeClock())
    await routes.on_published(published("ep-new", epoch=2))
    await routes.on_published(published("ep-old", epoch=1))

    assert ids(routes) == ["ep-new"]


async def test_the_last_routes_stand_while_the_scheduler_is_silent() -> None:
    clock = FakeClock()
    routes = RouteTable(clock)
    await routes.on_published(published("ep-1"))

    clock.advance(3600)

    assert ids(routes) == ["ep-1"]


async def test_a_withdrawn_route_is_told_once_to_whoever_watches_it() -> None:
    routes, told = RouteTable(FakeClock()), list[str]()
    await routes.on_published(published("ep-1", "ep-2"))
    with routes.watching("ep-1", lambda: told.append("ep-1")):
        await routes.on_published(published("ep-1", "ep-2"))
        assert told == []
        await routes.on_published(published("ep-2"))
        await routes.on_published(published("ep-2"))
        assert told == ["ep-1"]
    await routes.on_published(published("ep-1"))
    await routes.on_published(published())
    assert told == ["ep-1"]


async def test_a_message_about_some_models_says_nothing_of_the_others() -> None:
    routes = RouteTable(FakeClock())
    await routes.on_published(published("ep-1"))

    await routes.on_published(
        RoutesPublished(leader_epoch=1, routes={"model-2": routes_to("ep-2")})
    )
    assert ids(routes) == ["ep-1"]
    await routes.on_published(published())
    assert ids(routes) == [] and len(routes.candidates("model-2")) == 1


async def test_models_that_their_part_does_not_name_lose_their_routes_and_no_others_do() -> None:
    routes, told = RouteTable(FakeClock()), list[str]()
    model_ids = [f"model-{number}" for number in range(40)]
    table = {id_: routes_to(f"ep-of-{id_}") for id_ in model_ids}
    await routes.on_published(RoutesPublished(leader_epoch=1, routes=table))
    part = parts_of(ALL_MODELS, 4)[2]
    inside = [id_ for id_ in model_ids if covers(part, id_)]

    with (
        routes.watching(f"ep-of-{inside[0]}", lambda: told.append("named")),
        routes.watching(f"ep-of-{inside[1]}", lambda: told.append("not named")),
    ):
        kept = {inside[0]: table[inside[0]]}
        await routes.on_published(RoutesPublished(leader_epoch=1, routes=kept, part=part))

    assert told == ["not named"]
    left = {id_ for id_ in model_ids if routes.candidates(id_)}
    assert left == set(model_ids) - set(inside[1:])


async def test_what_an_earlier_leader_told_stands_until_the_next_one_has_spoken_of_it() -> None:
    routes = RouteTable(FakeClock())
    old = {f"model-{number}": routes_to(f"ep-{number}") for number in range(8)}
    await routes.on_published(RoutesPublished(leader_epoch=1, routes=old))

    for part in parts_of(ALL_MODELS, 2):
        outside = [id_ for id_ in old if routes.candidates(id_)]
        assert all(id_ in outside for id_ in old if covers(part, id_))
        await routes.on_published(RoutesPublished(leader_epoch=2, routes={}, part=part))

    assert not any(routes.candidates(id_) for id_ in old)
    whole = RoutesPart(part=0, num_parts=1)
    await routes.on_published(RoutesPublished(leader_epoch=1, routes=old, part=whole))
    assert not any(routes.candidates(id_) for id_ in old)


async def test_a_refusal_is_forgotten_when_its_models_routes_are_told_and_not_before() -> None:
    routes = RouteTable(FakeClock())
    await routes.on_published(published("ep-1", "ep-2"))
    routes.mark_refused("ep-1")

    await routes.on_published(RoutesPublished(leader_epoch=1, routes={"model-2": ()}))
    assert ids(routes) == ["ep-2"]
    await routes.on_published(published("ep-1", "ep-2"))
    assert sorted(ids(routes)) == ["ep-1", "ep-2"]
