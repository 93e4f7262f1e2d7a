"""Routes: what changed is told at once, everything again in parts; loads alone publish nothing."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from libs.common.bus.handling import encode
from libs.common.bus.messages import (
    EngineLoad,
    GatewayHeartbeat,
    ListRoutes,
    Route,
    RoutesPublished,
)
from libs.common.bus.route_parts import ALL_MODELS, covers, parts_of
from libs.common.states import EndpointState, WorkerState
from libs.common.testing.bus import FakeClock
from services.gateway.routing.route_table import RouteTable
from services.scheduler.policy.cluster import Endpoint, OpenRequest
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.table import Table
from services.scheduler.rounds.outgoing import Outgoing
from services.scheduler.rounds.route_publisher import MAX_ROUTES, RoutePublisher
from services.scheduler.rounds.routes import closed_endpoints, routes_of, with_loads
from tests.unit.scheduler.values import (
    endpoint,
    heard_now,
    observed,
    open_request,
    snapshot,
    worker,
)

STAGES = (worker(), worker(id="worker-2", stage_index=1))


def as_of(max_slots: int = 4, **load: Any) -> Snapshot:
    """One endpoint with two stages; the load is its entry's."""
    workers = (
        observed(WorkerState.READY, worker_id="worker-2"),
        observed(WorkerState.READY, **load),
    )
    fleet = (endpoint(workers=STAGES, max_slots=max_slots),)
    return snapshot(endpoints=fleet, workers={"node-1": workers})


def loaded_routes(state: Snapshot) -> tuple[Route, ...]:
    return with_loads(state, routes_of(state, "model-1", closed_endpoints(state)))


def test_a_route_carries_the_load_of_its_entry_worker() -> None:
    load = {
        "num_running": 2,
        "num_waiting": 1,
        "kv_used_bytes": 10,
        "kv_capacity_bytes": 100,
        "step_us": 7,
    }

    (route,) = loaded_routes(as_of(**load))

    assert route.load == EngineLoad(**load)


def test_a_route_without_a_heartbeat_has_no_load() -> None:
    (route,) = loaded_routes(snapshot(endpoints=(endpoint(),)))
    assert route.load is None


def test_a_load_alone_waits_for_the_next_repetition() -> None:
    publisher = RoutePublisher(leader_epoch=1, interval_s=5.0)

    def due(now_s: float, max_slots: int = 4, **load: int) -> list[Outgoing]:
        state = replace(as_of(max_slots=max_slots, **load), now_s=now_s)
        return publisher.due(state, {"model-1"})

    assert due(10.0, step_us=1)
    assert not due(14.9, step_us=2, num_running=1)
    (repeated,) = due(15.0, step_us=3)
    assert isinstance(repeated.message, RoutesPublished)
    (route,) = repeated.message.routes["model-1"]
    assert route.load is not None and route.load.step_us == 3
    assert due(15.1, max_slots=5)


def test_no_route_leads_to_where_a_request_is_alone_until_its_next_token_is_out() -> None:
    """Gateways send new requests by routes: the scheduler, which keeps others away, has no say."""
    alone = open_request(num_engine_crashes=2, attempt=3, endpoint_id="endpoint-1")
    publisher = RoutePublisher(leader_epoch=1, interval_s=5.0)

    def routed(now_s: float, *running: OpenRequest, progressed: int = 2) -> list[set[str]]:
        beat = GatewayHeartbeat(
            gateway_id=alone.gateway_id, request_ids=(), progressed={alone.id: progressed}
        )
        state = snapshot(
            endpoints=fleet, requests=running, observed=heard_now(gateways=[beat]), now_s=now_s
        )
        messages = [outgoing.message for outgoing in publisher.due(state)]
        published = [m for m in messages if isinstance(m, RoutesPublished)]
        return [{id_ for id_, routes in m.routes.items() if routes} for m in published]

    fleet = (endpoint(),)
    assert routed(10.0) == [{"model-1"}]
    assert routed(10.1, alone) == [set()]
    assert routed(10.2, replace(alone, num_engine_crashes=1)) == [{"model-1"}]
    assert routed(10.3, alone) == [set()]
    assert routed(10.4, alone, progressed=3) == [{"model-1"}]


# ------------------------------------------------------------------ many endpoints


def served(number: int, model_id: str, **changes: Any) -> Endpoint:
    id_ = f"endpoint-{number}"
    alone = worker(id=f"worker-{number}", endpoint_id=id_, node_id=f"node-{number}")
    return endpoint(id=id_, model_id=model_id, workers=(alone,), **changes)


def fleet_of(num_endpoints: int) -> tuple[Endpoint, ...]:
    """One for each model."""
    return tuple(served(number, f"model-{number}") for number in range(num_endpoints))


def published_in(outgoing: list[Outgoing]) -> list[RoutesPublished]:
    return [message.message for message in outgoing if isinstance(message.message, RoutesPublished)]


class Counted(Table[Endpoint]):
    """Nobody may look at all of its endpoints; what is found of single models is noted."""

    asked: ClassVar[list[str]] = []

    def __iter__(self) -> Iterator[Endpoint]:
        raise AssertionError("all endpoints were looked at")

    def by(self, index: str, key: str) -> tuple[Endpoint, ...]:
        self.asked.append(key)
        return super().by(index, key)


def counted(table: Table[Endpoint]) -> Counted:
    Counted.asked.clear()
    return Counted(table.schema, table.rows, table._places, table._indexes)


def test_a_change_costs_and_tells_what_has_changed_however_many_there_are() -> None:
    state, publisher = snapshot(endpoints=fleet_of(8_000), now_s=10.0), RoutePublisher(1, 5.0)
    publisher.due(state)
    draining = served(7, "model-7", state=EndpointState.DRAINING)
    fleet = state.endpoints.updated({"endpoint-7": draining, "endpoint-x": served(9, "model-x")})

    later = state.changed(endpoints=counted(fleet), now_s=10.01)
    (message,) = published_in(publisher.due(later, {"model-7", "model-8", "model-x"}))

    assert message.part is None
    assert {id_: len(routes) for id_, routes in message.routes.items()} == {
        "model-7": 0,
        "model-x": 1,
    }
    assert set(Counted.asked) == {"model-7", "model-8", "model-x"}
    assert not publisher.due(later, {"model-7", "model-8", "model-x"})


def test_everything_is_repeated_in_even_parts_of_which_each_is_small() -> None:
    state, publisher = snapshot(endpoints=fleet_of(20_000), now_s=0.0), RoutePublisher(1, 5.0)
    sizes = [len(encode(message)) for message in published_in(publisher.due(state))]
    assert len(sizes) > 50 and max(sizes) < 2**17

    per_second = [
        published_in(publisher.due(state.changed(now_s=float(second)))) for second in range(5, 10)
    ]

    numbers = [len(messages) for messages in per_second]
    assert sum(numbers) + len(published_in(publisher.due(state.changed(now_s=9.99)))) == len(sizes)
    assert max(numbers) <= -(-len(sizes) // 5) + 1
    told = [id_ for messages in per_second for message in messages for id_ in message.routes]
    assert len(told) == len(set(told))


@pytest.mark.parametrize("num_routes", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_many_routes_fit_into_messages(num_routes: int) -> None:
    state, publisher = snapshot(endpoints=fleet_of(num_routes), now_s=0.0), RoutePublisher(1, 5.0)

    messages = published_in(publisher.due(state))

    assert max(len(encode(message)) for message in messages) < 2**19
    assert sum(len(message.routes) for message in messages) == num_routes


def test_a_part_of_too_many_routes_is_split_and_one_models_are_cut() -> None:
    crowded = [f"model-{n}" for n in range(400) if covers(parts_of(ALL_MODELS, 4)[0], f"model-{n}")]
    fleet = [served(n, crowded[n % 20]) for n in range(3 * MAX_ROUTES)]
    fleet += [served(10**6 + n, "model-huge") for n in range(MAX_ROUTES + 1)]
    state = snapshot(endpoints=fleet, now_s=0.0)

    messages = published_in(RoutePublisher(1, 5.0).due(state))

    assert all(sum(map(len, m.routes.values())) <= MAX_ROUTES for m in messages)
    told = {id_: len(routes) for message in messages for id_, routes in message.routes.items()}
    assert sum(told.values()) == 4 * MAX_ROUTES and told["model-huge"] == MAX_ROUTES
    parts = [message.part for message in messages if message.part is not None]
    for model_id in (*crowded, "model-none", "model-huge"):
        assert sum(covers(part, model_id) for part in parts) == 1


def test_a_gateway_that_asks_gets_a_part_or_one_within_it_and_nobody_else_is_told_less() -> None:
    state, publisher = snapshot(endpoints=fleet_of(1_000), now_s=0.0), RoutePublisher(1, 5.0)
    publisher.due(state)
    fleet = state.endpoints.updated({"endpoint-1": None})
    state = state.changed(endpoints=fleet)

    first = publisher.listed(state, ListRoutes(part=ALL_MODELS))
    assert first.part is not None and first.part.num_parts == 4
    rest = [
        publisher.listed(state, ListRoutes(part=part))
        for part in parts_of(ALL_MODELS, 4)
        if part != first.part
    ]

    told = {id_ for message in (first, *rest) for id_ in message.routes}
    assert told == {f"model-{number}" for number in range(1_000)} - {"model-1"}
    (changed,) = published_in(publisher.due(state, {"model-1"}))
    assert changed.routes == {"model-1": ()}


async def test_whatever_is_lost_gateways_know_what_is_served_an_interval_later() -> None:
    """Against a table that is made anew each time."""
    choose = random.Random(11)
    publisher, table = RoutePublisher(1, 5.0), RouteTable(FakeClock())
    state, now_s = snapshot(endpoints=fleet_of(600), now_s=0.0), 0.0
    for step in range(300):
        now_s += choose.random()
        state, changed = _after_something(state, choose, step)
        state = state.changed(now_s=now_s)
        for message in published_in(publisher.due(state, changed)):
            if choose.random() < 0.7:
                await table.on_published(message)
    for end_s in (5.1, 10.2):  # a whole repetition, whenever the last one began
        for part in range(1, 6):
            later = state.changed(now_s=now_s + end_s - 5.1 + part * 1.02)
            for message in published_in(publisher.due(later)):
                await table.on_published(message)

    for model_id in {*state.endpoints.keys_of("model"), *(f"model-{n}" for n in range(600))}:
        expected = {r.endpoint_id for r in routes_of(state, model_id, closed_endpoints(state))}
        assert {route.endpoint_id for route in table.candidates(model_id)} == expected


def _after_something(
    state: Snapshot, choose: random.Random, step: int
) -> tuple[Snapshot, set[str]]:
    """The state, and about which models something was decided."""
    victim = choose.choice(list(state.endpoints.rows.values()))
    match choose.randrange(4):
        case 0:
            fresh = served(10_000 + step, f"model-{choose.randrange(900)}")
            return state.changed(endpoints=state.endpoints.updated({fresh.id: fresh})), {
                fresh.model_id
            }
        case 1:
            table = state.endpoints.updated({victim.id: None})
            return state.changed(endpoints=table), {victim.model_id}
        case 2:
            draining = replace(victim, state=EndpointState.DRAINING)
            table = state.endpoints.updated({victim.id: draining})
            return state.changed(endpoints=table), {victim.model_id}
        case _:
            is_lost = choose.random() < 0.5
            return state.changed(losses={victim.id: 1.0} if is_lost else {}), set()
