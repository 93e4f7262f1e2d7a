"""Routes carry what the entry workers say of their load, which alone publishes nothing."""

from dataclasses import replace
from typing import Any

from libs.common.bus.messages import EngineLoad, GatewayHeartbeat, RoutesPublished
from libs.common.states import WorkerState
from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.outgoing import Outgoing
from services.scheduler.rounds.routes import RoutePublisher, routes_of
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


def test_a_route_carries_the_load_of_its_entry_worker() -> None:
    load = {
        "num_running": 2,
        "num_waiting": 1,
        "kv_used_bytes": 10,
        "kv_capacity_bytes": 100,
        "step_us": 7,
    }

    (route,) = routes_of(as_of(**load))["model-1"]

    assert route.load == EngineLoad(**load)


def test_a_route_without_a_heartbeat_has_no_load() -> None:
    (route,) = routes_of(snapshot(endpoints=(endpoint(),)))["model-1"]
    assert route.load is None


def test_a_load_alone_waits_for_the_next_repetition() -> None:
    publisher = RoutePublisher(leader_epoch=1, interval_s=5.0)

    def due(now_s: float, max_slots: int = 4, **load: int) -> list[Outgoing]:
        return publisher.due(replace(as_of(max_slots=max_slots, **load), now_s=now_s))

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
        return [set(m.routes) for m in messages if isinstance(m, RoutesPublished)]

    fleet = (endpoint(),)
    assert routed(10.0) == [{"model-1"}]
    assert routed(10.1, alone) == [set()]
    assert routed(10.2, replace(alone, num_engine_crashes=1)) == [{"model-1"}]
    assert routed(10.3, alone) == [set()]
    assert routed(10.4, alone, progressed=3) == [{"model-1"}]
