"""A gateway that starts asks for all routes, in parts of the leader's choice."""

from dataclasses import replace

from libs.common.bus.messages import ListRoutes, Route, RoutesPublished
from libs.common.bus.route_parts import covers, halves
from libs.common.bus.subjects import ROUTES_LIST
from libs.common.testing.bus import FakeClock, MemoryBroker
from services.gateway.routing.route_loader import RouteLoader
from services.gateway.routing.route_table import RouteTable
from services.gateway.settings import Timing

TIMING = replace(Timing(), retry_s=0.001, call_timeout_s=1.0)
TABLE: dict[str, tuple[Route, ...]] = {
    f"model-{number}": (Route(endpoint_id=f"ep-{number}", epoch=1, max_slots=1),)
    for number in range(100)
}


async def test_it_asks_on_until_every_part_was_told_however_the_leader_splits_them() -> None:
    broker, asked = MemoryBroker(), list[ListRoutes]()

    async def listed(message: ListRoutes) -> RoutesPublished | None:
        asked.append(message)
        part, found = message.part, TABLE
        while len(found := {id_: TABLE[id_] for id_ in TABLE if covers(part, id_)}) > 30:
            part = halves(part)[0]
        if len(asked) % 3 == 0:
            return None
        return RoutesPublished(leader_epoch=1, routes=found, part=part)

    await broker.bus().subscribe(ROUTES_LIST, None, listed)
    routes = RouteTable(FakeClock())
    await RouteLoader(broker.bus(), routes, replace(TIMING, call_timeout_s=0.05)).run()

    assert all(len(routes.candidates(model_id)) == 1 for model_id in TABLE)
    await broker.bus().close()


async def test_it_gives_up_where_no_leader_answers() -> None:
    routes = RouteTable(FakeClock())
    await RouteLoader(MemoryBroker().bus(), routes, TIMING).run()
    assert not routes.candidates("model-1")
