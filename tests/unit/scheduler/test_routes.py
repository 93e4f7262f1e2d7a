"""Routes carry what the entry workers say of their load, which alone publishes nothing."""

from typing import Any

from services.scheduler.observation.observed import Observed

from libs.common.bus.messages import EngineLoad, RoutesPublished
from libs.common.states import WorkerState
from services.scheduler.observation.liveness import Hearing
from services.scheduler.policy.unconfirmed_losses import Doubts
from services.scheduler.rounds.routes import RoutePublisher, Table, routes_of
from tests.unit.scheduler.values import agent_heartbeat, endpoint, observed, worker

STAGES = (worker(), worker(id="worker-2", stage_index=1))


def table(max_slots: int = 4, **load: Any) -> Table:
    """Of one endpoint with two stages; the load is its entry's."""
    seen = Observed(Hearing(0.0, 2.0))
    workers = (
        observed(WorkerState.READY, worker_id="worker-2"),
        observed(WorkerState.READY, **load),
    )
    seen.hear_agent(agent_heartbeat("boot-a", 1, *workers), 1.0)
    fleet = (endpoint(workers=STAGES, num_stages=2, max_slots=max_slots),)
    return routes_of(fleet, Doubts(), seen)


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
    (route,) = routes_of((endpoint(),), Doubts(), Observed(Hearing(0.0, 2.0)))["model-1"]
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
