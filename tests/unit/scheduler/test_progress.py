"""Clients hear once why they wait; who is looked at is who has changed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from libs.common.bus.messages import RequestProgressed
from libs.common.reasons import Reason
from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint, OpenRequest
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.table import Table
from services.scheduler.rounds.progress import ProgressReporter
from tests.unit.scheduler.values import NOW_S, endpoint, open_request, snapshot

INTERVAL_S = 2.0


def told(reporter: ProgressReporter, state: Snapshot) -> list[tuple[str, int | None]]:
    """Ids of the requests that are told of the queue, with their places."""
    messages = [outgoing.message for outgoing in reporter.due(state)]
    progressed = [message for message in messages if isinstance(message, RequestProgressed)]
    assert len(progressed) == len(messages)
    return [(m.request_id, m.queue_position) for m in progressed if m.phase == "queued"]


def waiting(request_id: str, model_id: str = "model-1", arrived_s: float = 0.0) -> OpenRequest:
    return open_request(id=request_id, model_id=model_id, arrived_at_s=NOW_S - 10.0 + arrived_s)


def test_each_request_is_told_once_why_it_waits_and_again_when_that_changes() -> None:
    reporter = ProgressReporter(INTERVAL_S)
    state = snapshot(requests=[waiting("a"), waiting("b", arrived_s=1.0)])
    assert told(reporter, state) == [("a", 0), ("b", 1)]

    state = state.changed(now_s=NOW_S + 1.0)
    assert told(reporter, state) == []

    more = state.requests.updated({"c": waiting("c", arrived_s=0.5)})
    state = state.changed(now_s=NOW_S + 2.0, requests=more)
    assert told(reporter, state) == [("c", 1)]

    full = state.queue.keep_only(["model-1"]).wait("model-1", Reason.CLUSTER_FULL)
    state = state.changed(now_s=NOW_S + 3.0, queue=full)
    assert told(reporter, state) == [("a", 0), ("c", 1), ("b", 2)]

    gone = state.requests.updated({"a": None})
    assert told(reporter, state.changed(now_s=NOW_S + 4.0, requests=gone)) == []
    assert told(reporter, state.changed(now_s=NOW_S + 5.0)) == [("a", 0)], "it has come back"


class CountedRequests(Table[OpenRequest]):
    """Notes whose requests are looked at."""

    asked: ClassVar[list[str]] = []

    def by(self, index: str, key: str) -> tuple[OpenRequest, ...]:
        self.asked.append(key)
        return super().by(index, key)


class CountedEndpoints(Table[Endpoint]):
    """Nobody may look at all of them."""

    def __iter__(self) -> Iterator[Endpoint]:
        raise AssertionError("all endpoints were looked at")


def test_of_many_models_and_endpoints_those_are_looked_at_that_changed_or_start() -> None:
    reporter = ProgressReporter(INTERVAL_S)
    fleet = [endpoint(id=f"endpoint-{i}", model_id=f"lives-{i}") for i in range(500)]
    fleet.append(replace(fleet[0], id="starting", state=EndpointState.STARTING))
    state = snapshot(
        endpoints=fleet,
        requests=[waiting(f"request-{i}", f"model-{i}") for i in range(500)],
    )
    assert len(told(reporter, state)) == 500

    more = state.requests.updated({"another": waiting("another", "model-7", arrived_s=1.0)})
    later = state.changed(
        now_s=NOW_S + 1.0,
        requests=CountedRequests(more.schema, more.rows, more._places, more._indexes),
        endpoints=CountedEndpoints(
            *(state.endpoints.schema, state.endpoints.rows),
            *(state.endpoints._places, state.endpoints._indexes),
        ),
    )
    CountedRequests.asked.clear()

    assert told(reporter, later) == [("another", 1)]
    assert set(CountedRequests.asked) == {"model-7", "starting"}
