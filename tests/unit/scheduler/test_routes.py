"""Routes carry what the entry workers say of their load, which alone publishes nothing."""

from typing import Any

from libs.common.bus.messages import EngineLoad, RoutesPublished
from libs.common.states import WorkerState
from services.scheduler.rounds.routes import RoutePublisher, Table, routes_of
from tests.unit.scheduler.values import endpoint, observed, snapshot, worker

STAGES = (worker(), worker(id="worker-2", stage_index=1))


def table(max_slots: int = 4, **load: Any) -> Table:
    """Of one endpoint with two stages; the load is its entry's."""
    workers = (
        observed(WorkerState.READY, worker_id="worker-2"),
        observed(WorkerState.READY, **load),
    )
    fleet = (endpoint(workers=STAGES, max_slots=max_slots),)
    return routes_of(snapshot(endpoints=fleet, workers={"node-1": workers}))


def test_a_route_carries_the_load_of_its_entry_worker() -> None:
    load = {
        "num_running": 2,
        "num_waiting": 1,
        "kv_used_bytes": 10,
        "kv_capacity_bytes": 100,
        "step_us": 7,
    }

    (route,) = table(**load)["model-1"]

    assert route.load == EngineLoad(**load)


def test_a_route_without_a_heartbeat_has_no_load() -> None:
    (route,) = routes_of(snapshot(endpoints=(endpoint(),)))["model-1"]
    assert route.load is None


def test_a_load_alone_waits_for_the_next_repetition() -> None:
    publisher = RoutePublisher(leader_epoch=1, interval_s=5.0)

    assert publisher.due(table(step_us=1), 10.0) is not None
    assert publisher.due(table(step_us=2, num_running=1), 14.9) is None
    repeated = publisher.due(table(step_us=3), 15.0)
    assert repeated is not None and isinstance(repeated.message, RoutesPublished)
    (route,) = repeated.message.routes["model-1"]
    assert route.load is not None and route.load.step_us == 3
    assert publisher.due(table(max_slots=5), 15.1) is not None
