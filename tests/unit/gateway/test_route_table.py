"""Routes are hints: the emptiest first, none that just refused; withdrawals are told."""

from libs.common.bus.messages import Route, RoutesPublished
from libs.common.testing.bus import FakeClock
from services.gateway.route_table import RouteTable


def published(*endpoint_ids: str, epoch: int = 1, max_slots: int = 2) -> RoutesPublished:
    routes = tuple(Route(endpoint_id=e, epoch=1, max_slots=max_slots) for e in endpoint_ids)
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
